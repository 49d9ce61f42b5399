"""Why a run is where it is, and why another config would play other steps: from records alone."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.address import differences
from orchestrator.errors import StoreError
from orchestrator.plan import PlannedStep
from orchestrator.runs import RunRecord, load_run
from orchestrator.store.files import Files
from orchestrator.store.lease import Holder, look_at
from orchestrator.store.store import Store
from orchestrator.tracking.tracker import read_events

Event = Mapping[str, Any]
LEASE = "lease.json"


def explain_run(folder: Path) -> list[str]:
    """Where a run stands and what it waits for, one line each.

    Raises:
        StoreError: The folder holds no run, or its record can't be read.
    """
    events = list(read_events(folder))
    player = look_at(Files(folder), LEASE)
    record = _record(folder, events)
    name = record.run if record else folder.name
    status = _status(record, events, left=player is None or player.alive is False)
    lines = [f"{name}: {status}{_rounds(record)}"]
    if record is not None and record.status == "finished":
        return [*lines, f"it waits for nothing: {record.stopped}"]
    last = events[-1] if events else None
    if player is None:
        told = "nobody plays it: 'selftrain run' with its config goes on"
        return [*lines, told, *_last_word(last)]
    lines.append(f"played by {described(player)}")
    if player.alive is False:
        lines.append("that process is dead: the same command takes over and goes on")
        return [*lines, *_last_word(last)]
    step = open_step(events)
    if step is None:
        return [*lines, "between two steps", *_last_word(last)]
    store = str(record.config.store) if record else _store_of(events)
    return [*lines, *waits_for(step, player, store)]


def waits_for(step: Event, player: Holder | None, store: str) -> list[str]:
    """What a step that has begun waits for: its own work, or the process that holds its lease."""
    kind, address = step["kind"], step["address"]
    what = f"round {step['round']}  {step['step']} ({kind}/{address[:12]})"
    begun = f"begun {_ago(_seconds(step['time']))}"
    holder = look_at(Files(store), f"leases/{kind}-{address}.json")
    if holder is None:
        return [f"{what}: {begun}; nobody holds its lease now"]
    mine = player is not None and (player.host, player.pid) == (holder.host, holder.pid)
    if mine:
        return [f"{what}: {begun}; it works on it itself, {_since(holder)}"]
    lines = [f"{what}: {begun}; it waits for {described(holder)}, which holds the step's lease"]
    if holder.alive is False:
        lines.append("that process is dead: whoever waits takes the step over at once")
    return lines


def open_step(events: Sequence[Event]) -> Event | None:
    """The step that began last and has not ended; None if there is none."""
    for event in reversed(events):
        if event["event"] in ("step_finished", "round_finished", "run_started"):
            return None
        if event["event"] == "step_started":
            return event
    return None


def explain_plan(record: RunRecord, planned: Sequence[PlannedStep], store: Store) -> list[str]:
    """Why a config would play other steps than a run did: the first step that differs, by field.

    Steps behind it differ because their inputs do.
    """
    theirs = {(each.round, each.step): each for each in planned}
    same = 0
    for each in record.rounds:
        for name, ref in each.steps.items():
            where = f"round {each.round}  {name}"
            step = theirs.get((each.round, name))
            if step is None:
                return [f"{where} is a step of the run and none of the config", *_common(same)]
            if step.address == ref.address:
                same += 1
                continue
            lines = [f"{where} differs: {ref.kind}/{ref.address} -> {step.kind}/{step.address}"]
            lines += [f"  {line}" for line in _fields(store, ref.kind, ref.address, step)]
            return [*lines, *_common(same)]
    more = len(planned) - same
    tail = [f"the config has {more} further steps"] if more > 0 else []
    return [f"all {same} steps of the run are steps of the config", *tail]


def described(holder: Holder) -> str:
    """Who holds a lease and since when, in words."""
    return f"process {holder.pid} on {holder.host}, {_since(holder)}"


def _fields(store: Store, kind: str, address: str, step: PlannedStep) -> list[str]:
    try:
        before = store.record(kind, address).identity
    except StoreError as error:
        return [f"{error}; what differs can't be said"]
    return differences(before, step.identity)


def _common(same: int) -> list[str]:
    return [f"{same} steps before it are the same; those behind it follow from it"]


def _record(folder: Path, events: Sequence[Event]) -> RunRecord | None:
    try:
        return load_run(folder)
    except StoreError:
        if not events:
            raise
        return None  # its first round is not over


def _status(record: RunRecord | None, events: Sequence[Event], *, left: bool) -> str:
    last = events[-1]["event"] if events else ""
    if last in ("run_interrupted", "run_failed"):
        return last.removeprefix("run_")
    if record is not None and last in ("run_finished", ""):
        return record.status
    return "left before its end" if left else "running"


def _rounds(record: RunRecord | None) -> str:
    if record is None:
        return ", in its first round"
    return f", {len(record.rounds)} of at most {record.config.recipe.policy.num_rounds} rounds"


def _store_of(events: Sequence[Event]) -> str:
    begun = next(e for e in reversed(events) if e["event"] == "run_started")
    return str(begun["config"]["store"])


def _last_word(last: Event | None) -> list[str]:
    if last is None:
        return []
    why = last.get("error") or last.get("reason") or ""
    told = f"last told {_ago(_seconds(last['time']))}: {last['event'].replace('_', ' ')}"
    return [f"{told}: {why}" if why else told]


def _since(holder: Holder) -> str:
    if holder.since is None:
        return "since an unknown time"
    when = datetime.fromtimestamp(holder.since, UTC).isoformat(timespec="seconds")
    return f"since {when} ({_ago(holder.since)})"


def _seconds(when: str) -> float:
    return datetime.fromisoformat(when).timestamp()


def _ago(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit} ago"
    return f"{seconds:.0f} s ago"
