"""`--to local`: the run as a process of this machine, with the same rules as elsewhere."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cluster.following import growth_of, text_of
from cluster.job import Job, environment, shell
from cluster.launcher import Say, Started
from cluster.standing import Standing, State
from orchestrator.errors import ConfigError, SelftrainError
from orchestrator.runs import RECORD as RUN
from orchestrator.runs import load_record, load_run
from orchestrator.sweep.record import RECORD as SWEEP
from orchestrator.sweep.record import SweepRecord
from orchestrator.tracking.secrets import redact

LOG = "launch.log"
ENDS: dict[str, tuple[State, str]] = {
    "finished": ("finished", ""),
    "interrupted": ("stopped", ""),
    "failed": ("failed", "its log tells why"),
    "running": ("failed", "its process is gone"),
}
LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class LocalLauncher:
    """This machine."""

    grace_s: int
    runs: Path
    """Folder of the runs."""
    children: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    """What was started here: its exit code is known."""

    def preview(self, job: Job) -> str:
        """The command and the names of the variables it needs."""
        names = ", ".join(environment(job.launch.env)) or "none named"
        log = job.config.runs / job.id / LOG
        return f"{redact(shell(_command(job)))}\nvariables: {names}\nlog: {log}"

    def start(self, job: Job, say: Say) -> Started:
        """Start the process in a session of its own, or attach to the one that runs."""
        environment(job.launch.env)
        folder = job.config.runs / job.id
        if (process := find_process(folder)) is not None:
            return Started(job.id, str(process.pid), attached=True)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("w") as log:
            child = subprocess.Popen(
                _command(job),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self.children[job.id] = child
        born = psutil.Process(child.pid).create_time()
        (folder / "launch.pid").write_text(f"{child.pid} {born}")
        say(f"log: {folder / LOG}")
        return Started(job.id, str(child.pid))

    def standing(self, started: Started) -> Standing:
        """Where it stands, by its process and its record."""
        folder = self.runs / started.id
        if (process := find_process(folder)) is not None:
            return Standing("running", f"process {process.pid}")
        if not (folder / LOG).exists():
            return Standing("unknown")
        child = self.children.get(started.id)
        state, reason = ENDS[recorded(folder)]
        return Standing(state, reason, child.wait() if child else None)

    def logs(self, started: Started, *, follow: bool) -> Iterator[str]:
        """What it printed."""
        folder = self.runs / started.id
        if not follow:
            yield text_of(folder / LOG)
            return
        yield from growth_of(folder / LOG, lambda: find_process(folder) is not None)

    def stop(self, started: Started, say: Say) -> Standing:
        """SIGTERM to the process, which stops at its next safe point; SIGKILL after the grace."""
        process = find_process(self.runs / started.id)
        if process is not None:
            say(f"asked process {process.pid} to stop; it has {self.grace_s} s to checkpoint")
            process.terminate()
            deadline = time.monotonic() + self.grace_s
            while find_process(self.runs / started.id) and time.monotonic() < deadline:
                time.sleep(LOOK_EVERY_S)
            if find_process(self.runs / started.id):
                process.kill()
        return self.standing(started)


def find_process(folder: Path) -> psutil.Process | None:
    """The process of a run, if it lives: the same number started at the same time."""
    try:
        number, born = (folder / "launch.pid").read_text().split()
        process = psutil.Process(int(number))
        if process.create_time() == float(born) and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (OSError, ValueError, psutil.Error):
        pass
    return None


def recorded(folder: Path) -> str:
    """The status that the run or the sweep has written down; 'failed' if there is none."""
    try:
        if (folder / SWEEP).exists():
            return str(load_record(folder / SWEEP, SweepRecord, "sweep").status)
        if (folder / RUN).exists():
            return str(load_run(folder).status)
    except SelftrainError as error:
        raise ConfigError(f"{folder}: {error}") from error
    return "failed"


def _command(job: Job) -> tuple[str, ...]:
    return job.command(str(job.file), moved=False)
