"""Why a trial of a sweep ended, or where it stands: from the sweep's event log alone."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError
from orchestrator.explaining import LEASE, described
from orchestrator.store.files import Files
from orchestrator.store.lease import look_at
from orchestrator.sweep.display import alarms_of, shown
from orchestrator.sweep.record import sweep_folder
from orchestrator.tracking.tracker import read_events

Event = Mapping[str, Any]
TRIAL = re.compile(r"(?P<sweep>.+)/(?:trial-)?(?P<number>\d{1,6})")


def trial_of(runs: Path, text: str) -> tuple[Path, int] | None:
    """The sweep's folder and the trial's number that SWEEP/TRIAL names; None if it names none."""
    found = TRIAL.fullmatch(text)
    folder = sweep_folder(runs, found["sweep"]) if found else None
    return (folder, int(found["number"])) if found and folder else None


def explain_trial(folder: Path, number: int) -> list[str]:
    """What a trial was, how its rounds went, how it ended and why, one line each.

    Raises:
        ConfigError: The sweep has begun no such trial.
    """
    events = [e for e in read_events(folder) if e.get("trial") == number]
    begun = [e for e in events if e["event"] == "trial_started"]
    if not begun:
        known = sorted({e["trial"] for e in read_events(folder) if "trial" in e})
        there = ", ".join(map(str, known)) or "none"
        raise ConfigError(f"{folder.name} has begun no trial {number}; it has begun {there}")
    lines = [f"trial {number} of {folder.name}, proposed by {begun[-1]['origin']}"]
    lines.append(f"  {shown(begun[-1]['chosen']) or 'the defaults'}")
    rounds = {e["round"]: e for e in events if e["event"] == "trial_round"}
    for round_ in sorted(rounds):
        scores = [seed["score"] for seed in rounds[round_]["seeds"]]
        mean = sum(scores) / len(scores)
        over = f", mean of {len(scores)} seeds" if len(scores) > 1 else ""
        lines.append(f"round {round_}  validation {mean:.4f}{over}")
        lines += [f"  alarm: {alarm}" for alarm in alarms_of(rounds[round_])]
    ended = [e for e in events if e["event"] == "trial_ended"]
    if not ended:
        return [*lines, *_stands(events)]
    end = ended[-1]
    lines.append(f"{end['state']}: {_why(end)}")
    if any(e["event"] == "trial_promoted" for e in events):
        lines.append("later it was taken up again: by what was known then it should go on")
    return lines


def explain_sweep(folder: Path) -> list[str]:
    """Who plays a sweep, and what each trial that has not ended told last."""
    events = list(read_events(folder))
    player = look_at(Files(folder), LEASE)
    ended = {e["trial"] for e in events if e["event"] == "trial_ended"}
    begun = {e["trial"] for e in events if e["event"] == "trial_started"}
    lines = [f"{folder.name}: {len(begun)} trials begun, {len(ended)} ended"]
    if player is None:
        lines.append("nobody plays it: 'selftrain sweep' with its config goes on")
    else:
        lines.append(f"played by {described(player)}")
    for number in sorted(begun - ended):
        told = _stands([e for e in events if e.get("trial") == number])
        lines += [f"trial {number}  {line}" for line in told]
    return lines


def _stands(events: Sequence[Event]) -> list[str]:
    """What a trial that has not ended told last."""
    last = events[-1]
    if last["event"] == "trial_waits":
        return [f"round {last['round']}  {last['step']}: {last['text']}"]
    place = " ".join(f"{k} {last[k]}" for k in ("round", "step") if k in last)
    return [f"not ended; last told {last['event'].replace('_', ' ')} {place}".rstrip()]


def _why(end: Event) -> str:
    if end["state"] == "complete":
        values = ", ".join(f"{value:.4f}" for value in end["values"])
        return f"all its rounds are played, objectives {values}"
    return str(end.get("reason") or end.get("error") or "no reason was told")
