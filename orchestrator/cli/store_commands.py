"""`selftrain store ls|verify|gc`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import AsJson, StoreRoot
from orchestrator.console import Console
from orchestrator.errors import ConfigError, StoreError
from orchestrator.store.store import Store
from orchestrator.tracking.tracker import EVENTS, read_events

app = typer.Typer(help="The store of steps.", no_args_is_help=True)


@app.command("ls")
def list_steps(store: StoreRoot = "store", as_json: AsJson = False) -> None:
    """List the steps of a store."""
    opened = Store(store)
    rows = []
    for kind, address, done in opened.steps():
        entry: dict[str, object] = {"kind": kind, "address": address, "finished": done}
        if done:
            record = opened.record(kind, address)
            entry |= {
                "bytes": sum(f.num_bytes for f in record.files),
                "seconds": record.seconds,
                "finished_at": record.finished_at,
            }
        rows.append(entry)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    console = Console()
    for row in rows:
        state = "unfinished"
        if row["finished"]:
            state = f"{row['bytes']:>12,} bytes  {row['seconds']:>8.1f} s  {row['finished_at']}"
        console.say(f"{row['kind']}/{row['address']}  {state}")
    console.say(f"{len(rows)} steps in {opened.root}")


@app.command()
def verify(
    store: StoreRoot = "store",
    drop: Annotated[bool, typer.Option(help="Delete steps that are broken.")] = False,
) -> None:
    """Read every file of every finished step and compare it with its record."""
    opened, console = Store(store), Console()
    broken = 0
    checked = 0
    for kind, address, done in opened.steps():
        if not done:
            continue
        checked += 1
        if faults := opened.faults(kind, address):
            broken += 1
            for fault in faults:
                console.say(fault)
            if drop:
                opened.drop(kind, address)
                console.say(f"dropped {kind}/{address}")
    console.say(f"{checked} steps verified, {broken} broken")
    if broken and not drop:
        raise StoreError(f"{broken} steps of {opened.root} are broken")


@app.command()
def gc(
    store: StoreRoot = "store",
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Keep only what runs and sweeps below this folder use; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be deleted.")] = False,
) -> None:
    """Delete what unfinished work left and, with --runs, steps that no run points at."""
    opened, console = Store(store), Console()
    doomed = opened.leftovers()
    if runs:
        kept = _pointed_at(runs)
        doomed += [
            f"steps/{kind}/{address}"
            for kind, address, done in opened.steps()
            if done and (kind, address) not in kept
        ]
    for name in doomed:
        console.say(f"{'would delete' if dry_run else 'deleting'} {name}")
        if not dry_run:
            _delete(opened, name)
    console.say(f"{len(doomed)} folders and leases")


def _delete(store: Store, name: str) -> None:
    if name.startswith("steps/"):
        _, kind, address = name.split("/")
        store.drop(kind, address)
    elif name.startswith("leases/"):
        store.files.delete(name)
    else:
        store.files.delete_folder(name)


def _pointed_at(folders: list[Path]) -> set[tuple[str, str]]:
    """Steps that the runs and the sweeps below these folders have ever begun.

    Raises:
        ConfigError: A folder holds no run, so that everything would count as unused.
    """
    found: set[tuple[str, str]] = set()
    for folder in folders:
        runs = sorted(path.parent for path in folder.glob(f"*/{EVENTS}"))
        if not runs:
            raise ConfigError(f"--runs {folder}: there is no run; nothing was deleted")
        found |= {
            (event["kind"], event["address"])
            for run in runs
            for event in read_events(run)
            if event["event"] in ("step_started", "trial_step")
        }
    return found
