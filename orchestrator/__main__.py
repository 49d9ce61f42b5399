"""`python -m orchestrator` is `selftrain`."""

from orchestrator.cli import main

main()
