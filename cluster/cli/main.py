"""The orchestrator's commands, and those that start runs elsewhere and look after them."""

import typer

from cluster.cli import launch_commands
from orchestrator.cli.main import app as played
from orchestrator.cli.main import main as run_app
from orchestrator.cli.main import options

app = typer.Typer(
    name="selftrain",
    help=played.info.help,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.callback()(options)
app.registered_commands += played.registered_commands
app.registered_groups += played.registered_groups
app.command("submit")(launch_commands.submit)
app.command("status")(launch_commands.status)
app.command("logs")(launch_commands.logs)
app.command("stop")(launch_commands.stop)


def main() -> None:
    """Run the command line; every error of ours is one message and one exit code."""
    run_app(app)
