"""`selftrain sweep`."""

import json
import re
import time
from typing import Annotated

import typer

from orchestrator.cli.options import AsJson, ConfigFile, Overrides
from orchestrator.console import Console
from orchestrator.errors import ConfigError, Interrupted
from orchestrator.loading import load_config
from orchestrator.signals import StopRequest

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def sweep(
    config: ConfigFile,
    trials: Annotated[
        int | None, typer.Option(help="Trials to play in all, those of earlier starts included.")
    ] = None,
    most: Annotated[
        str | None,
        typer.Option("--for", help="Time after which no round starts: 90s, 30m, 8h, 2d."),
    ] = None,
    concurrent: Annotated[int | None, typer.Option(help="Trials at a time.")] = None,
    screen: Annotated[
        int | None, typer.Option(help="Screen many candidates and play the best of this number.")
    ] = None,
    warm_from: Annotated[
        str | None, typer.Option(help="An older sweep to learn from: its name or folder.")
    ] = None,
    overrides: Overrides = None,
    wait: Annotated[bool, typer.Option(help="Wait if another process plays this sweep.")] = True,
    as_json: AsJson = False,
) -> None:
    """Search thresholds, curricula and the rest, or go on with it: the same command after a crash.

    Examples:
      selftrain sweep examples/sweep.yaml --trials 12
      selftrain sweep examples/sweep.yaml --trials 40 --screen 20 --for 2h
    """
    from orchestrator.sweep.display import closing_lines, leaderboard_table
    from orchestrator.sweep.session import play_sweep

    began = time.perf_counter()
    changes = list(overrides or [])
    given = {"trials": trials, "concurrent": concurrent, "screen.keep": screen}
    changes += [f"sweep.{name}={value}" for name, value in given.items() if value is not None]
    if most is not None:
        changes.append(f"sweep.most_s={seconds_of(most)}")
    settings = load_config(config, changes)
    stop = StopRequest()
    stop.install()
    with Console(to_stderr=as_json) as console:
        try:
            record, folder = play_sweep(settings, console, stop, warm_from=warm_from, wait=wait)
        except Interrupted as error:
            raise Interrupted(f"{error}; the same command goes on from here") from error
    if as_json:
        typer.echo(json.dumps(record.answer() | {"folder": str(folder)}))
        return
    console.rich.print(leaderboard_table(record))
    for line in closing_lines(record, folder):
        console.say(line)
    console.say(f"Took {time.perf_counter() - began:.1f} s.")


def seconds_of(text: str) -> float:
    """Seconds of a duration such as 90s, 30m or 8h.

    Raises:
        ConfigError: It is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"--for {text!r}: must be a number and a unit, such as 90s, 30m or 8h")
    return float(found[1]) * UNITS_S[found[2]]
