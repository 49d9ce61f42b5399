"""Weights & Biases as a projection of the event log. The only door to wandb.

A thread of its own talks to wandb, so that a slow or broken W&B never slows or ends a run. Ids are
the run's own and rounds are logged explicitly. An attempt that goes on with a run first sends the
rounds that were finished before; `replay` makes one clean run of all attempts.
"""

import logging
import queue
import threading
from pathlib import Path
from typing import Any, Literal

from orchestrator.config import RunConfig
from orchestrator.tracking.secrets import redact
from orchestrator.tracking.tracker import Event, read_events

log = logging.getLogger(__name__)
Mode = Literal["offline", "online"]
CLOSE_S = 20.0
START_S = 20.0


class WandbProjection:
    """Sends events to one W&B run; opens it when the first new work is done."""

    def __init__(self, run: str, config: RunConfig, folder: Path, mode: Mode) -> None:
        self._run, self._config, self._folder, self._mode = run, config, folder, mode
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def hear(self, event: Event) -> None:
        if self._thread is None:
            if not _is_new_work(event):
                return
            for earlier in read_events(self._folder):
                if earlier["event"] == "round_finished":
                    self._queue.put(earlier)
            self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
            self._thread.start()
        self._queue.put(event)

    def close(self) -> None:
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.warning(
                "W&B did not finish within %g s; 'selftrain track replay' makes its run "
                "anew from the event log",
                CLOSE_S,
            )

    def _work(self) -> None:
        try:
            run = open_run(self._run, self._config, self._folder, self._mode)
        except Exception as error:  # noqa: BLE001 - tracking must never end a run
            log.warning("W&B is off for this run: %s", redact(str(error)))
            return
        while (event := self._queue.get()) is not None:
            try:
                send(run, event)
            except Exception as error:  # noqa: BLE001 - tracking must never end a run
                log.warning("W&B is off from here: %s", redact(str(error)))
                break
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


def open_run(run: str, config: RunConfig, folder: Path, mode: Mode) -> Any:
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
        "group": redact(config.tracking.group or config.name),
        "job_type": "run",
        "id": run,
        "name": run,
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
    for prefix in ("validation/*", "test/*", "selection/*", "round_s"):
        handle.define_metric(prefix, step_metric="round")
    handle.define_metric("train/step")
    handle.define_metric("train/*", step_metric="train/step")
    return handle


def send(run: Any, event: Event) -> None:
    """Log one event: progress of training, a finished round, or the end of the run."""
    if event["event"] == "progress" and event.get("unit") == "steps":
        run.log(
            {
                "train/step": event["step_in_round"],
                "train/round": event["round"],
                "train/loss": event["loss"],
                "train/images_per_s": event["images_per_s"],
            }
        )
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
    return values


def _is_new_work(event: Event) -> bool:
    return event["event"] == "progress" or (
        event["event"] == "step_finished" and not event["from_store"]
    )
