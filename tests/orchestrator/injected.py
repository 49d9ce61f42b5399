"""`selftrain run` in processes of their own in which file operations kill, fail or do harm.

An operation is what changes a disk for other processes: bytes brought to disk (`sync`), a name that
is made, moved or removed. The operations of the main thread below a folder are numbered from 1; a
plan says what happens before each. Processes are forked from one that has imported everything, so
that a thousand of them cost what they do and not what they import.
"""

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.config import RunConfig

PATIENCE_S = 240
RANDOM = re.compile(r"\.[0-9a-f]{8}$")
LOST_BYTES = 5
"""What a file loses of bytes that were never brought to disk."""
PRELOADED = (
    "orchestrator.cli.main",
    "orchestrator.engines.local_engine",
    "kornia.augmentation",
    "pyarrow.dataset",
    "torch._dynamo",
    "tests.orchestrator.injected",
)
"""What takes seconds to import and nothing to fork."""
Plan = Callable[[int, str, str], None]
"""Hears the number, the operation and the path; raises, kills, or lets it happen."""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    """Exit code; negative: the signal that killed it."""
    text: str
    """What it printed."""
    operations: tuple[str, ...]
    """Operation and path, relative to the folder, of everything that it did or tried."""
    seconds: float
    """From its start to its end."""


@dataclass(frozen=True)
class Killed:
    """SIGKILL before operation ``at``; what was written and not yet on disk is cut short."""

    at: int

    def __call__(self, number: int, operation: str, path: str) -> None:
        if number != self.at:
            return
        if operation == "sync":
            os.truncate(path, max(0, os.path.getsize(path) - LOST_BYTES))
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Full:
    """From operation ``at`` on nothing more can be brought to disk, and no name can be made."""

    at: int

    def __call__(self, number: int, operation: str, path: str) -> None:
        if number >= self.at and operation in ("sync", "link"):
            raise OSError(28, os.strerror(28), path)


def nothing(number: int, operation: str, path: str) -> None:
    """The plan of a run that nothing happens to."""


def run_with(config: RunConfig, folder: Path, plan: Plan = nothing) -> Ended:
    """Play a run under a plan to the end of its process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.plain()))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(
        target=_child, args=(str(folder), str(config.runs.parent), plan, dict(os.environ))
    )
    began = time.perf_counter()
    process.start()
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"nothing ended:\n{(folder / 'printed').read_text()}")
    return Ended(
        process.exitcode,
        (folder / "printed").read_text(),
        tuple((folder / "operations").read_text().splitlines()),
        time.perf_counter() - began,
    )


def _child(folder: str, root: str, plan: Plan, environment: dict[str, str]) -> None:
    """What the process does; its parent was forked in an older environment."""
    os.environ.update(environment)
    from orchestrator.cli.main import main

    printed = os.open(f"{folder}/printed", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sys.argv = ["selftrain", "run", f"{folder}/config.yaml"]
    with open(f"{folder}/operations", "w", buffering=1) as told, _watched(root, plan, told.write):
        main()


@contextmanager
def _watched(root: str, plan: Plan, tell: Callable[[str], object]) -> Iterator[None]:
    """Every operation below ``root`` goes through the plan while the block runs."""
    from orchestrator.store.files import Files

    number = 0

    def before(operation: str, path: str) -> None:
        nonlocal number
        if not path.startswith(root):
            return
        if threading.current_thread() is threading.main_thread():
            number += 1
            tell(f"{operation} {RANDOM.sub('', os.path.relpath(path, root))}\n")
        plan(number, operation, path)

    def heard(owner: Any, name: str, operation: str, path_of: Callable[..., str]) -> None:
        act = getattr(owner, name)

        def call(*args: Any, **named: Any) -> Any:
            before(operation, path_of(*args))
            return act(*args, **named)

        setattr(owner, name, call)

    heard(os, "fsync", "sync", lambda number: os.readlink(f"/proc/self/fd/{number}"))
    heard(os, "link", "link", lambda _, target: os.fspath(target))
    heard(os, "rename", "move", lambda source, _: os.fspath(source))
    heard(os, "replace", "replace", lambda _, target: os.fspath(target))
    heard(os, "unlink", "remove", os.fspath)
    heard(Files, "delete", "remove", lambda files, name: files.path(name))
    heard(Files, "delete_folder", "remove", lambda files, name: files.path(name))
    yield  # the process ends with the block
