"""`selftrain run`, `plan`, `show`, `explain` and `track`."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.address import differences
from orchestrator.cli.options import AsJson, ConfigFile, Overrides, RunName, RunsFolder, StoreRoot
from orchestrator.config import RunConfig
from orchestrator.console import Console, closing_lines, rounds_table
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, Interrupted
from orchestrator.explaining import explain_plan, explain_run
from orchestrator.explaining_rows import explain_row
from orchestrator.loading import load_config
from orchestrator.plan import plan_run
from orchestrator.runs import find_run, load_run, run_folder
from orchestrator.session import play_run
from orchestrator.sheets import Which, contact_sheet
from orchestrator.signals import StopRequest
from orchestrator.store.store import Store
from orchestrator.sweep.display import closing_lines as sweep_lines
from orchestrator.sweep.display import leaderboard_table
from orchestrator.sweep.explaining import explain_sweep, explain_trial, trial_of
from orchestrator.sweep.record import load_sweep, sweep_folder

track = typer.Typer(help="Tracking of runs.", no_args_is_help=True)


def run(
    config: ConfigFile,
    overrides: Overrides = None,
    wait: Annotated[bool, typer.Option(help="Wait if another process plays this run.")] = True,
    as_json: AsJson = False,
) -> None:
    """Play a run, or go on with it: the same command after any crash."""
    began = time.perf_counter()
    settings = load_config(config, overrides or [])
    stop = StopRequest()
    stop.install()
    with Console(to_stderr=as_json) as console:
        try:
            record, _ = play_run(settings, console, stop, wait=wait)
        except Interrupted as error:
            raise Interrupted(f"{error}; the same command goes on from here") from error
    if as_json:
        typer.echo(json.dumps(record.answer()))
        return
    console.rich.print(rounds_table(record))
    for line in closing_lines(record):
        console.say(line)
    console.say(f"Took {time.perf_counter() - began:.1f} s.")


def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    sweep: Annotated[
        bool | None,
        typer.Option(
            help="Plan the sweep or the run; a config with a sweep block plans the sweep."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a run or a sweep would do and what the store has of it; computes nothing."""
    settings = load_config(config, overrides or [])
    if sweep or (sweep is None and settings.sweep is not None):
        _plan_sweep(settings, as_json=as_json)
        return
    lines = plan_run(settings, Dataset(settings.data), Store(settings.store))
    if as_json:
        typer.echo(json.dumps([line.plain() for line in lines]))
        return
    console = Console()
    for line in lines:
        where = "in the store" if line.in_store else "to compute"
        console.say(
            f"round {line.round}  {line.step:<13} {line.address[:12]}  {where:<12}  {line.work}"
        )
    missing = [line for line in lines if not line.in_store]
    steps = sum(line.most_steps for line in missing)
    rows = sum(line.rows for line in missing)
    console.say(
        f"{len(lines) - len(missing)} of {len(lines)} steps are in the store; the rest trains at "
        f"most {steps:,} optimiser steps and reads {rows:,} pool rows"
    )
    console.say("Rounds that are rolled back or stop the run early change the later steps.")


def _plan_sweep(settings: RunConfig, *, as_json: bool) -> None:
    from orchestrator.sweep.plan import plan_sweep

    found = plan_sweep(settings, Dataset(settings.data), Store(settings.store))
    if as_json:
        typer.echo(json.dumps(found.plain()))
        return
    console = Console()
    for line in found.lines():
        console.say(line)


def show(name: RunName, runs: RunsFolder = Path("runs"), as_json: AsJson = False) -> None:
    """Show a run with its rounds and the steps behind them, or a sweep with its leaderboard."""
    if (swept := sweep_folder(runs, name)) is not None:
        _show_sweep(swept, as_json=as_json)
        return
    folder = find_run(runs, name)
    record = load_run(folder)
    if as_json:
        typer.echo(json.dumps(record.answer()))
        return
    console = Console()
    console.rich.print(rounds_table(record))
    for each in record.rounds:
        for step, ref in each.steps.items():
            console.say(f"round {each.round}  {step:<13} {ref.kind}/{ref.address}")
    console.say(f"{record.status}; {record.stopped or 'not at its end'}; folder {folder}")


def _show_sweep(folder: Path, *, as_json: bool) -> None:
    record = load_sweep(folder)
    if as_json:
        typer.echo(json.dumps(record.answer()))
        return
    console = Console()
    console.rich.print(leaderboard_table(record))
    for line in sweep_lines(record, folder):
        console.say(line)


def sheet(
    name: RunName,
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    round_: Annotated[int | None, typer.Option("--round", help="Round; the last one.")] = None,
    rows: Annotated[int, typer.Option(min=1, max=400, help="Rows to draw.")] = 24,
    columns: Annotated[int, typer.Option(min=1, max=40, help="Rows side by side.")] = 6,
    which: Annotated[
        Which, typer.Option(help="Rows at equal distances, or by the teacher's confidence.")
    ] = "even",
    runs: RunsFolder = Path("runs"),
) -> None:
    """Draw pool rows with their pseudo-labels on one sheet, to look at."""
    content = contact_sheet(load_run(find_run(runs, name)), round_, rows, columns, which)
    out.write_bytes(content)
    Console().say(f"wrote {out}")


def explain(
    first: Annotated[
        str, typer.Argument(help="Run, SWEEP/TRIAL, sweep, or KIND/ADDRESS of a step.")
    ],
    second: Annotated[str | None, typer.Argument(help="Another step to compare with.")] = None,
    against: Annotated[
        Path | None, typer.Option("--plan", help="Config whose steps a run's are compared with.")
    ] = None,
    overrides: Overrides = None,
    row: Annotated[
        str | None, typer.Option(help="Id of a pool row: what each round made of it.")
    ] = None,
    store: StoreRoot = "store",
    runs: RunsFolder = Path("runs"),
) -> None:
    """Say why: what a run waits for or made of a row, why a trial ended, what decides an address.

    Examples:
      selftrain explain RUN                      where it stands, and who holds what it waits for
      selftrain explain RUN --plan config.yaml   the field that makes another config differ
      selftrain explain RUN --row ID             what each round said of a pool row and did with it
      selftrain explain SWEEP/7                  how trial 7 went, and why it was pruned
      selftrain explain train/0a1b label/2c3d    fields of a step, or in which two differ
    """
    if row is not None:
        if second is not None or against is not None or overrides:
            raise ConfigError("--row asks about one run: leave the second name, --plan, --set out")
        lines = explain_row(load_run(find_run(runs, first)), row)
    else:
        lines = _explained(first, second, against, overrides or [], store, runs)
    for line in lines:
        typer.echo(line)


def _explained(
    first: str,
    second: str | None,
    against: Path | None,
    overrides: list[str],
    store: str,
    runs: Path,
) -> list[str]:
    if against is not None:
        settings, record = load_config(against, overrides), load_run(find_run(runs, first))
        opened = Store(settings.store)
        return explain_plan(record, plan_run(settings, Dataset(settings.data), opened), opened)
    if second is None:
        if (trial := trial_of(runs, first)) is not None:
            return explain_trial(*trial)
        if (folder := run_folder(runs, first)) is not None:
            return explain_run(folder)
        if (folder := sweep_folder(runs, first)) is not None:
            return explain_sweep(folder)
    opened = Store(store)
    one = _identity(opened, first)
    if second is None:
        return [json.dumps(one, indent=1)]
    return differences(one, _identity(opened, second)) or ["the two are the same step"]


def _identity(store: Store, text: str) -> dict[str, Any]:
    kind, _, begin = text.rpartition("/")
    found = [
        (k, a) for k, a, done in store.steps() if done and a.startswith(begin) and k == (kind or k)
    ]
    if len(found) != 1:
        shown = ", ".join(f"{k}/{a}" for k, a in found) or "none"
        raise ConfigError(f"{text!r} names {len(found)} finished steps of {store.root}: {shown}")
    return store.record(*found[0]).identity


@track.command()
def replay(
    name: RunName,
    runs: RunsFolder = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Folder to write the W&B run to.")] = None,
) -> None:
    """Rebuild one clean offline W&B run from a run's event log."""
    from orchestrator.tracking.wandb_projection import replay as rebuild

    folder = find_run(runs, name)
    record = load_run(folder)
    target = out or folder / "replay"
    events = rebuild(record.run, record.config, folder, target)
    Console().say(f"{events} events; upload with: wandb sync {target}/wandb/offline-run-*")
