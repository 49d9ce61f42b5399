"""`selftrain submit`, `status`, `logs` and `stop`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.job import Verb, load_launch, make_job
from cluster.launcher import Launcher, Started
from cluster.launchers import launcher_for
from cluster.records import find_launch, save_launch
from orchestrator.cli.options import AsJson, ConfigFile, Overrides, RunsFolder
from orchestrator.errors import ConfigError
from orchestrator.launch import LaunchRecord, Place
from orchestrator.tracking.secrets import redact

Submitted = Annotated[str, typer.Argument(help="Run or sweep, or the beginning of its name.")]
LaunchFile = Annotated[
    Path | None, typer.Option("--launch", help="YAML file laid over the config's launch block.")
]
MaybePlace = Annotated[
    Place | None, typer.Option("--to", help="Where it runs, if it wasn't submitted from here.")
]


def submit(
    verb: Annotated[Verb, typer.Argument(help="What to start there.")],
    config: ConfigFile,
    to: Annotated[Place, typer.Option("--to", help="Where to start it.")],
    overrides: Overrides = None,
    launch: LaunchFile = None,
    identity: Annotated[
        str | None, typer.Option("--id", help="Its identity, where the data can't be read here.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be started, and start nothing.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Don't follow what it prints.")] = False,
    again: Annotated[bool, typer.Option(help="Start anew what has finished.")] = False,
) -> None:
    """Start a run or sweep elsewhere, or attach to it: the same command after any crash.

    Examples:
      selftrain submit --to ray run config.yaml --dry-run
      selftrain submit --to slurm --launch team.yaml sweep config.yaml
    """
    job = make_job(verb, config, overrides or [], launch, identity)
    launcher = launcher_for(to, job.launch, job.config.runs, again=again)
    if dry_run:
        typer.echo(launcher.preview(job))
        return
    started = launcher.start(job, _say)
    record = LaunchRecord(run=job.id, place=to, place_id=started.place_id, launch=job.launch)
    if save_launch(job.config.runs, record) is None:
        _say(f"{job.config.runs} isn't a folder of this host: later say --to {to} {job.id}")
    _say(
        f"{'attached to' if started.attached else 'started'} {job.id} on {to}, as "
        f"{started.place_id}"
    )
    if detach:
        _say(
            f"follow it with: selftrain logs {job.id} --follow; end it with: selftrain stop "
            f"{job.id}"
        )
        return
    _follow(launcher, started)


def status(
    run: Submitted,
    runs: RunsFolder = Path("runs"),
    to: MaybePlace = None,
    launch: LaunchFile = None,
    as_json: AsJson = False,
) -> None:
    """Say where a submitted run stands."""
    launcher, started = _find(run, runs, to, launch)
    standing = launcher.standing(started)
    if as_json:
        typer.echo(json.dumps(redact({"run": started.id, **asdict(standing)})))
        return
    typer.echo(standing.line(started.id))


def logs(
    run: Submitted,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it ends.")] = False,
    runs: RunsFolder = Path("runs"),
    to: MaybePlace = None,
    launch: LaunchFile = None,
) -> None:
    """Print what a submitted run has printed."""
    launcher, started = _find(run, runs, to, launch)
    if follow:
        _follow(launcher, started)
        return
    for piece in launcher.logs(started, follow=False):
        _print(piece)


def stop(
    run: Submitted,
    runs: RunsFolder = Path("runs"),
    to: MaybePlace = None,
    launch: LaunchFile = None,
) -> None:
    """Stop a submitted run at its next safe point; submitting it again goes on from there."""
    launcher, started = _find(run, runs, to, launch)
    typer.echo(launcher.stop(started, _say).line(started.id))


def _find(
    run: str, runs: Path, to: Place | None, launch_file: Path | None
) -> tuple[Launcher, Started]:
    """The launcher of a submitted run, by its record or by what the user says."""
    if to is not None:
        return launcher_for(to, load_launch(launch_file), runs), Started(run, run)
    record = find_launch(runs, run)
    launch = load_launch(launch_file, record.launch)
    return launcher_for(record.place, launch, runs), Started(record.run, record.place_id)


def _follow(launcher: Launcher, started: Started) -> None:
    """Print until it ends, then leave with its exit code; Ctrl-C leaves it running."""
    try:
        for piece in launcher.logs(started, follow=True):
            _print(piece)
    except KeyboardInterrupt:
        _say(f"\n{started.id} goes on; end it with: selftrain stop {started.id}")
        return
    standing = launcher.standing(started)
    _say(standing.line(started.id))
    if standing.alive:
        raise ConfigError(f"the log of {started.id} has ended before it: selftrain status")
    raise typer.Exit(standing.code)


def _print(piece: str) -> None:
    sys.stdout.write(redact(piece))
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"{redact(text)}\n")
    sys.stderr.flush()
