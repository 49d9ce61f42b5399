"""Commands in processes of their own: started, followed through their event log, ended."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml

from orchestrator.config import RunConfig

PATIENCE_S = 480


def start(
    config: RunConfig, folder: Path, *arguments: str, command: str = "run"
) -> subprocess.Popen:
    """`selftrain run` or another command on a config, in a process of its own."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.plain()))
    whole = [sys.executable, "-m", "orchestrator", command, str(path), *arguments]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}  # so that a test can wait for a line
    return subprocess.Popen(
        whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )


def events(config: RunConfig) -> list[dict]:
    """The events of the only run or sweep, as far as they are whole."""
    found = []
    for path in config.runs.glob("*/events.jsonl"):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def wait_until(true: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Whether it came true before the process ended by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if true():
            return True
        if process.poll() is not None:
            return true()
        time.sleep(0.005)  # how often the log is looked at; nothing waits for a fixed time
    raise AssertionError("nothing happened for eight minutes")


def end(process: subprocess.Popen) -> str:
    """Wait for the process; what it printed."""
    text, _ = process.communicate(timeout=PATIENCE_S)
    return text


def ray_process(parent: int, name: str) -> psutil.Process | None:
    """A process below ``parent`` whose title holds the name."""
    return next(iter(processes_of(parent, name)), None)


def processes_of(parent: int, name: str) -> list[psutil.Process]:
    """All processes below ``parent`` whose title holds the name."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(parent).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if name in " ".join(child.cmdline()):
                    found.append(child)
    return found


def family_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The process and all below it, as long as it lives."""
    with contextlib.suppress(psutil.Error):
        own = psutil.Process(process.pid)
        return [own, *own.children(recursive=True)]
    return []


def kill(process: subprocess.Popen) -> None:
    """SIGKILL; its children may work on for a moment, as they would after a crash."""
    family = family_of(process)
    process.kill()
    _, left = psutil.wait_procs(family, timeout=3)
    for each in left:
        with contextlib.suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(left, timeout=30)
