"""The command line: `selftrain`, whole."""

from orchestrator.environment import prepare_environment


def main() -> None:
    """Run the command line, with the environment set before torch and Ray are loaded."""
    prepare_environment()
    from cluster.cli.main import main as run

    run()
