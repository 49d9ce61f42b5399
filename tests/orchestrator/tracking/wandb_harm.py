"""What may happen to W&B while a run goes on, done as soon as the run begins a step."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.orchestrator.processes import processes_of

PATIENCE_S = 60


@dataclass(frozen=True)
class Harmed:
    """Harms W&B when a step of this kind begins in this round."""

    how: str
    kind: str
    round: int = 1

    def __call__(self, number: int, operation: str, path: str) -> None:
        log = Path(path)
        if operation != "sync" or log.name != "events.jsonl":
            return
        event = json.loads(log.read_text().splitlines()[-1])
        if event["event"] == "step_started" and (event["kind"], event["round"]) == (
            self.kind,
            self.round,
        ):
            HARMS[self.how](log.parent)


def services() -> list[psutil.Process]:
    """The processes that write W&B's files for this one."""
    return processes_of(os.getpid(), "wandb-core")


def kill_service(folder: Path) -> None:
    """SIGKILL to the process that writes W&B's files, once it has begun one."""
    for service in _working(folder):
        service.kill()


def fill_disk(folder: Path) -> None:
    """From here on W&B's files grow no further, as if the disk were full."""
    for service in _working(folder):
        service.rlimit(psutil.RLIMIT_FSIZE, (0, 0))


def take_folder(folder: Path) -> None:
    """W&B's folder is gone."""
    assert list(_working(folder))
    shutil.rmtree(folder / "wandb")


def raise_on_log(folder: Path) -> None:
    """Whatever is logged from here on raises."""
    import wandb

    def log(*_: Any, **__: Any) -> None:
        raise ValueError("W&B does not take this")

    wandb.Run.log = log


def occupy_folder(folder: Path) -> None:
    """A file stands where W&B's folder should be made."""
    (folder / "wandb").write_text("in the way")


HARMS: dict[str, Callable[[Path], None]] = {
    "killed": kill_service,
    "full": fill_disk,
    "gone": take_folder,
    "raises": raise_on_log,
    "occupied": occupy_folder,
}


def _working(folder: Path) -> list[psutil.Process]:
    """The services once a run's file is there; W&B starts beside the run's own work."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = services()
        if found and any(folder.glob("wandb/offline-run-*/*.wandb")):
            return found
        time.sleep(0.02)  # how often it is looked for; nothing waits for a fixed time
    raise AssertionError(f"W&B did not begin below {folder}; process {os.getpid()}")


def freeze(process: psutil.Process) -> None:
    """Stop a process without ending it."""
    process.send_signal(signal.SIGSTOP)
