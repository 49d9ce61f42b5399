"""The commands together, and what becomes of errors."""

import importlib.metadata
import logging
import sys
import traceback
from typing import Annotated

import typer

from orchestrator.cli import (
    data_commands,
    delivered_commands,
    info_commands,
    run_commands,
    store_commands,
    sweep_commands,
)
from orchestrator.errors import SelftrainError
from orchestrator.store.retry import no_room
from orchestrator.tracking.secrets import Redacting, redact

app = typer.Typer(
    name="selftrain",
    help="Self-training rounds on Ray: train, label the pool, select, repeat.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def tell_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it
    """Print the version and end, if asked."""
    if asked:
        typer.echo(f"selftrain {importlib.metadata.version('selftrain')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: FBT002 - an option
        bool,
        typer.Option("--version", is_eager=True, callback=tell_version, help="Print the version."),
    ] = False,
) -> None:
    """What may stand before a command."""
    del version


app.command("prepare")(data_commands.prepare)
app.command("embed")(data_commands.embed)
app.command("run")(run_commands.run)
app.command("sweep")(sweep_commands.sweep)
app.command("plan")(run_commands.plan)
app.command("show")(run_commands.show)
app.command("sheet")(run_commands.sheet)
app.command("export")(delivered_commands.export)
app.command("predict")(delivered_commands.predict)
app.command("explain")(run_commands.explain)
app.command("methods")(info_commands.methods)
app.command("schema")(info_commands.schema)
app.command("doctor")(info_commands.doctor)
app.add_typer(store_commands.app, name="store")
app.add_typer(run_commands.track, name="track")


def main(commands: typer.Typer = app) -> None:
    """Run the command line; every error of ours is one message and one exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Redacting())
    try:
        commands()
    except SelftrainError as error:
        sys.stderr.write(f"{redact(str(error))}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        told = no_room(f"writing {error.filename or 'a file'}", error)
        shown = str(told) if isinstance(told, SelftrainError) else traceback.format_exc()
        sys.stderr.write(f"{redact(shown).rstrip()}\n")
        sys.exit(told.exit_code if isinstance(told, SelftrainError) else 1)
    except Exception:  # noqa: BLE001 - a fault of ours: shown whole, but without secrets
        sys.stderr.write(redact(traceback.format_exc()))
        sys.exit(1)
