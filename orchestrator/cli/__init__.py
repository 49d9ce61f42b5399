"""The command line: `selftrain`."""

from orchestrator.cli.main import main

__all__ = ["main"]
