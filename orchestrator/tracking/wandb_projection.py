"""Weights & Biases as a projection of the event log. The only door to wandb.

A thread of its own talks to wandb, so that a slow or broken W&B never slows or ends a run. Ids are
the run's own and rounds are logged explicitly. An attempt that goes on with a run first sends the
rounds that were finished before; `replay` makes one clean run of all attempts.
"""

import json
import logging
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import psutil

from orchestrator.config import RunConfig
from orchestrator.tracking.secrets import redact
from orchestrator.tracking.tracker import Event, read_events

log = logging.getLogger(__name__)
Mode = Literal["offline", "online"]
CLOSE_S = 20.0
START_S = 20.0
SERVICE = "wandb-core"
SCORES = ("validation/*", "test/*", "selection/*", "round_s", "work_s", "alarms")
BY_ROUND = (*SCORES, "in_step/*", "loss/*", "loss_weight/*", "teacher/*")
"""What is drawn over rounds; the rest is drawn over training steps."""
TOLD_OF_TEACHER = ("distance", "disagreement", "queue")


class _Post:
    """A queue of events and the thread that sends them."""

    def __init__(self, work: Callable[[Iterator[Event]], None]) -> None:
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._work = work
        self._thread = threading.Thread(target=self._run, name="wandb", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Send an event, some time."""
        self._queue.put(event)

    def close(self) -> None:
        """Wait a while until everything is sent; W&B that takes longer is ended."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.warning(
                "W&B did not finish within %g s and is ended; the event log holds everything: "
                "'selftrain track replay RUN'",
                CLOSE_S,
            )
            _end_services()

    def _run(self) -> None:
        try:
            self._work(iter(self._queue.get, None))
        except Exception as error:  # noqa: BLE001 - tracking must never end a run
            log.warning("W&B is off from here: %s", redact(str(error)))


def _end_services() -> None:
    """End the processes that work for wandb: it would wait for them when this one ends."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.name().startswith(SERVICE):
                child.kill()


class WandbProjection:
    """Sends events to one W&B run; opens it when the first new work is done."""

    def __init__(self, run: str, config: RunConfig, folder: Path, mode: Mode) -> None:
        self._run, self._config, self._folder, self._mode = run, config, folder, mode
        self._post: _Post | None = None

    def hear(self, event: Event) -> None:
        if self._post is None:
            if not _is_new_work(event):
                return
            self._post = _Post(self._send)
            for earlier in read_events(self._folder):
                if earlier["event"] == "round_finished":
                    self._post.put(earlier)
        self._post.put(event)

    def close(self) -> None:
        if self._post is not None:
            self._post.close()

    def _send(self, events: Iterator[Event]) -> None:
        run = open_run(self._run, self._config, self._folder, self._mode)
        for event in events:
            send(run, event)
        run.finish()


class SweepProjection:
    """Sends a sweep to W&B: one run for each trial, and one for the sweep with its leaderboard.

    Rounds of a trial that is played again, from the store, are sent again to a run with the same
    id, whose earlier offline files are removed first.
    """

    def __init__(self, sweep: str, config: RunConfig, folder: Path, mode: Mode) -> None:
        self._sweep, self._config, self._folder, self._mode = sweep, config, folder, mode
        self._post: _Post | None = None

    def hear(self, event: Event) -> None:
        if self._post is None:
            self._post = _Post(self._send)
        self._post.put(event)

    def close(self) -> None:
        if self._post is not None:
            self._post.close()

    def _send(self, events: Iterator[Event]) -> None:
        runs: dict[int, Any] = {}
        for event in events:
            name, trial = event["event"], event.get("trial", -1)
            if name == "trial_started":
                runs[trial] = self._open(f"{self._sweep}-{trial:04d}", f"trial-{trial:04d}", event)
            elif name == "trial_round" and trial in runs:
                runs[trial].log(_of_trial_round(event))
            elif name == "trial_ended" and trial in runs:
                kept = ("state", "values", "reason", "error")
                runs[trial].summary.update({k: event[k] for k in kept if k in event})
                runs.pop(trial).finish(exit_code=int(event["state"] == "failed"))
            elif name == "sweep_closed":
                self._summarise(event["record"])
        for run in runs.values():
            run.finish()

    def _open(self, run: str, name: str, event: Event) -> Any:
        recipe = event.get("recipe")
        kind_of = type(self._config.recipe)
        update = {"recipe": kind_of.model_validate(recipe)} if recipe is not None else {}
        if self._mode == "offline":
            for earlier in (self._folder / "wandb").glob(f"offline-run-*-{run}"):
                shutil.rmtree(earlier, ignore_errors=True)
        kind = "trial" if recipe is not None else "sweep"
        config = self._config.model_copy(update=update)
        return open_run(run, config, self._folder, self._mode, kind, name, self._sweep)

    def _summarise(self, record: Event) -> None:
        import wandb

        run = self._open(self._sweep, self._sweep, {})
        columns = ("trial", "state", "score", "half_width", "test", "rounds", "work_s", "chosen")
        rows = [
            [json.dumps(place[c]) if c == "chosen" else place[c] for c in columns]
            for place in record["places"]
        ]
        run.log({"leaderboard": wandb.Table(columns=list(columns), data=rows)})
        for name in ("status", "best", "account", "importances", "screened"):
            run.summary[name] = record[name]
        run.finish()


def replay(run: str, config: RunConfig, folder: Path, out: Path) -> int:
    """Write one clean offline W&B run from a run's event log; return how many events it holds.

    Of rounds that were played again after an interruption only the last one counts.
    """
    last: dict[tuple[Any, ...], Event] = {}
    for event in read_events(folder):
        key = tuple(event.get(k) for k in ("event", "round", "address", "unit", "step_in_round"))
        last.pop(key, None)
        last[key] = event
    import wandb

    handle = open_run(run, config, out, "offline")
    for kept in last.values():
        send(handle, kept)
    handle.finish()
    wandb.teardown()  # returns when everything is on disk
    return len(last)


def open_run(
    run: str,
    config: RunConfig,
    folder: Path,
    mode: Mode,
    kind: str = "run",
    name: str | None = None,
    group: str | None = None,
) -> Any:
    """A W&B run with the deterministic id of our run; falls back to offline without a network."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        silent=True,
        console="off",
        x_disable_stats=True,
        x_disable_meta=True,
        disable_git=True,
        disable_code=True,
        init_timeout=START_S,
    )
    options = {
        "project": config.tracking.project,
        "group": redact(config.tracking.group or group or config.name),
        "job_type": kind,
        "id": run,
        "name": name or run,
        "tags": redact(list(config.tracking.tags)) or None,
        "config": redact(config.plain()),
        "dir": str(folder),
        "resume": "allow",
        "reinit": "create_new",
        "settings": settings,
    }
    try:
        handle = wandb.init(mode=mode, **options)
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        log.warning("W&B can't be reached (%s); logging offline", redact(str(error)))
        handle = wandb.init(mode="offline", **options)
    handle.define_metric("round")
    for name in BY_ROUND:
        handle.define_metric(name, step_metric="round")
    handle.define_metric("train/step")
    handle.define_metric("train/*", step_metric="train/step")
    return handle


def send(run: Any, event: Event) -> None:
    """Log one event: progress of training, a finished round, or the end of the run."""
    if event["event"] == "progress" and event.get("unit") == "steps":
        told = {k: v for k, v in event.items() if k in ("loss", "images_per_s") or "/" in k}
        told |= {"step": event["step_in_round"], "round": event["round"]}
        run.log({f"train/{name}": value for name, value in told.items()})
    elif event["event"] == "round_finished":
        run.log(_of_round(event))
    elif event["event"] == "run_finished":
        run.summary.update({"best_round": event["best_round"], "stopped": event["stopped"]})
        run.summary.update({f"best/{k}": v for k, v in event["best"].items()})


def _of_round(event: Event) -> dict[str, Any]:
    values = {"round": event["round"], "round_s": event["seconds"]}
    for split in ("validation", "test"):
        values |= {f"{split}/{k}": v for k, v in event[split].items() if k != "rows"}
    if event["accepted"] is not None:
        values["selection/accepted"] = event["accepted"]
        values |= {f"selection/class/{k}": n for k, n in enumerate(event["class_rows"])}
    if event["precision"] is not None:
        values["selection/precision"] = event["precision"]
    values |= _by_number("selection/class_precision", event.get("class_precision", ()))
    values |= _thresholds("selection/threshold", event.get("thresholds", ()))
    values |= _by_number("selection/prior", event.get("prior", ()))
    found = event.get("selection", {})
    values |= {f"selection/{k}": v for k, v in found.items() if v is not None}
    values["alarms"] = len(event.get("alarms", ()))
    return values | _of_training(event)


def _of_training(event: Event) -> dict[str, Any]:
    """Terms, their weights, the teacher, and what training steps accepted of the pool."""
    terms = {f"loss/{name}": value for name, value in event.get("terms", {}).items()}
    terms |= {f"loss_weight/{k}": v for k, v in event.get("term_weights", {}).items()}
    found = {name: event.get(f"teacher_{name}") for name in TOLD_OF_TEACHER}
    terms |= {f"teacher/{name}": value for name, value in found.items()}
    seen = dict(event.get("in_step") or {})
    terms |= _by_number("in_step/class", seen.pop("class_rows", ()))
    terms |= _thresholds("in_step/threshold", seen.pop("thresholds", ()))
    terms |= {f"in_step/{name}": value for name, value in seen.items()}
    return {name: value for name, value in terms.items() if value is not None}


def _by_number(name: str, values: Sequence[float | None]) -> dict[str, float]:
    """Values of classes as metrics of their own; what is None is left out."""
    return {f"{name}/{k}": value for k, value in enumerate(values) if value is not None}


def _thresholds(name: str, values: Sequence[float | None]) -> dict[str, float]:
    """Thresholds of classes, and the highest of them that a row can reach.

    Where those of classes are lowered from one of the whole pool, that is the highest.
    """
    reached = [value for value in values if value is not None and value <= 1]
    return _by_number(name, values) | ({name: max(reached)} if reached else {})


def _of_trial_round(event: Event) -> dict[str, Any]:
    """A trial's round: means over seeds, and each seed's own score if there are several.

    Diagnostics are those of the first seed, alarms are counted over all.
    """
    seeds = event["seeds"]
    newest = [s["newest"] for s in seeds if s.get("newest")]
    names = {"validation/score": "score", "validation/delivered": "delivered"}
    names |= {"test/delivered": "test", "selection/pseudo_labels": "pseudo_labels"}
    values: dict[str, Any] = _of_round(newest[0]) if newest else {}
    values |= {"round": event["round"], "alarms": sum(len(each["alarms"]) for each in newest)}
    for shown, name in names.items():
        values[shown] = sum(s[name] for s in seeds) / len(seeds)
    values["work_s"] = sum(s["work_s"] for s in seeds)
    if len(seeds) > 1:
        values |= {f"validation/seed-{s['seed']}": s["score"] for s in seeds}
    return values


def _is_new_work(event: Event) -> bool:
    return event["event"] == "progress" or (
        event["event"] == "step_finished" and not event["from_store"]
    )
