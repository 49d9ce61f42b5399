"""One command, one session: engine, store, tracker, console and signals around a run."""

import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from orchestrator.config import Placement, RunConfig
from orchestrator.console import Console
from orchestrator.data.dataset import Dataset
from orchestrator.engines.base import Engine
from orchestrator.engines.local_engine import LocalEngine
from orchestrator.engines.ray_engine import RayEngine
from orchestrator.errors import Interrupted
from orchestrator.noise import native_noise_to
from orchestrator.notices import NodeNotice
from orchestrator.play import Player
from orchestrator.runs import RECORD, RunRecord, begin_record, load_run, run_id, save_run
from orchestrator.signals import StopRequest
from orchestrator.store.files import Files
from orchestrator.store.lease import Lease
from orchestrator.store.store import Store
from orchestrator.tracking.csv_projection import CsvProjection
from orchestrator.tracking.log_projection import LogProjection
from orchestrator.tracking.process_log import open_log
from orchestrator.tracking.ray_metrics_projection import RayMetricsProjection
from orchestrator.tracking.secrets import redact
from orchestrator.tracking.tracker import Projection, Tracker
from orchestrator.tracking.wandb_projection import WandbProjection

PROGRESS_EVERY_S = 2.0


@dataclass
class RunWatch:
    """Carries progress to the console and, now and then, to the event log."""

    console: Console
    tracker: Tracker
    stop: StopRequest
    told_at: float = 0.0
    step: dict[str, Any] = field(default_factory=dict)
    """Round, name and address of the step that runs."""

    def hear(self, event: Any) -> None:
        """Know which step runs."""
        if event["event"] == "step_started":
            self.step = {name: event[name] for name in ("round", "step", "address")}
            self.told_at = 0.0

    def close(self) -> None:
        """Nothing is held."""

    def progress(self, unit: str, done: int, total: int, **numbers: float) -> None:
        self.console.progress(unit, done, total, **numbers)
        now = time.monotonic()
        if now - self.told_at >= PROGRESS_EVERY_S or done >= total:
            self.told_at = now
            self.tracker.emit(
                "progress",
                unit=unit,
                step_in_round=done,
                of=total,
                **self.step,
                **numbers,
            )

    def say(self, text: str) -> None:
        self.console.say(text)

    def stopping(self) -> bool:
        return self.stop.asked()


def make_engine(placement: Placement) -> Engine:
    """The engine that a placement names."""
    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    return LocalEngine(placement) if placement.engine == "local" else RayEngine(placement)


def play_run(
    config: RunConfig, console: Console, stop: StopRequest, *, wait: bool = True
) -> tuple[RunRecord, Path]:
    """Play a run to its end, or go on with it; its record and its folder.

    A second process on the same run waits for the first and then finds every step in the store.

    Raises:
        Interrupted: Stopped on request; the same command goes on.
        BusyError: Another process plays this run, and ``wait`` is False.
        SelftrainError: The run can't be played; the error says what to do.
    """
    data = Dataset(config.data)
    store = Store(config.store)
    config = config.model_copy(update={"store": store.root})
    run = run_id(config, data)
    folder = config.runs / run
    lease = Lease(
        Files(folder),
        "lease.json",
        what=f"run {run}",
        wait=wait,
        told=console.say,
        stopping=stop.asked,
    )
    with lease:
        store.check_writable()
        plain = yaml.safe_dump(redact(config.plain()), sort_keys=False)
        Files(folder).write("config.yaml", plain.encode())
        record = begin_record(config, data)
        noisy = config.placement.engine == "ray"
        noise = native_noise_to(folder / "ray.log") if noisy else nullcontext()
        notice = NodeNotice(stop) if noisy else nullcontext()
        with noise, notice, open_log(folder, run):
            return _play(record, data, store, folder, console, stop), folder


def _play(
    record: RunRecord,
    data: Dataset,
    store: Store,
    folder: Path,
    console: Console,
    stop: StopRequest,
) -> RunRecord:
    config, began = record.config, time.perf_counter()
    engine = make_engine(config.placement)
    projections: list[Projection] = [console, CsvProjection(folder), LogProjection()]
    if config.placement.engine == "ray":
        projections.append(RayMetricsProjection(record.run))
    if config.tracking.wandb != "disabled":
        projections.append(WandbProjection(record.run, config, folder, config.tracking.wandb))
    tracker = Tracker(folder, projections)
    watch = RunWatch(console, tracker, stop)
    tracker.add(watch)
    latest = record
    before = load_run(folder).rounds if (folder / RECORD).exists() else ()

    def save(changed: RunRecord) -> None:
        nonlocal latest
        seconds = round(time.perf_counter() - began, 3)
        latest = changed.model_copy(update={"seconds": seconds})
        unfinished = latest.status != "finished"
        rounds = latest.rounds + (before[len(latest.rounds) :] if unfinished else ())
        save_run(folder, latest.model_copy(update={"rounds": rounds}))

    tracker.emit("run_started", run=record.run, config=config.plain(), data=record.data)
    try:
        for changed in Player(config, data, store, engine, tracker, watch).play(record):
            save(changed)
        best = latest.rounds[latest.best_round or 0]
        numbers = {"validation": best.validation["score"], "test": best.test["score"]}
        tracker.emit(
            "run_finished", best_round=latest.best_round, stopped=latest.stopped, best=numbers
        )
        return latest
    except Interrupted as error:
        save(latest.model_copy(update={"status": "interrupted"}))
        tracker.emit("run_interrupted", reason=str(error))
        raise
    except Exception as error:
        with suppress(OSError):  # storage that is full or away is what the run fails of
            save(latest.model_copy(update={"status": "failed"}))
            tracker.emit("run_failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        tracker.close()
        engine.close()
