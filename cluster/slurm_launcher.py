"""`--to slurm`: the run as a batch job that brings its own Ray cluster."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.following import growth_of, text_of
from cluster.job import Job, environment
from cluster.launcher import Say, Started
from cluster.local_launcher import ENDS, recorded
from cluster.slurm_script import script_of
from cluster.standing import Standing
from orchestrator.errors import ConfigError, InfeasibleError

LOG = "slurm.log"
SCRIPT = "launch.sbatch"
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "RESV_DEL_HOLD")
LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class SlurmLauncher:
    """A Slurm cluster whose commands are on this host."""

    grace_s: int
    runs: Path
    """Folder of the runs."""

    def preview(self, job: Job) -> str:
        """The batch script."""
        _check(job)
        return script_of(job, _log(job))

    def start(self, job: Job, say: Say) -> Started:
        """Hand the script to sbatch, or attach to the job of this name that waits or runs."""
        _check(job)
        if (found := self._queued(job.id)) is not None:
            return Started(job.id, found[0], attached=True)
        script = job.config.runs.absolute() / job.id / SCRIPT
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(script_of(job, _log(job)))
        answer = ask(["sbatch", "--parsable", str(script)])
        say(f"log: {_log(job)}")
        return Started(job.id, answer.split(";")[0].strip())

    def standing(self, started: Started) -> Standing:
        """Where it stands, by Slurm's queue and the run's record."""
        folder = self.runs / started.id
        if (found := self._queued(started.id)) is not None:
            number, state = found
            waits = state in WAITING
            return Standing("waiting" if waits else "running", f"Slurm job {number}: {state}")
        if not (folder / SCRIPT).exists():
            return Standing("unknown")
        state_of, reason = ENDS[recorded(folder)]
        return Standing(state_of, reason)

    def logs(self, started: Started, *, follow: bool) -> Iterator[str]:
        """What it printed, over all requeues."""
        log = self.runs / started.id / LOG
        if not follow:
            yield text_of(log)
            return
        yield from growth_of(log, lambda: self.standing(started).alive, LOOK_EVERY_S)

    def stop(self, started: Started, say: Say) -> Standing:
        """SIGTERM to the script, which hands it to the driver and isn't requeued."""
        found = self._queued(started.id)
        if found is None:
            return self.standing(started)
        number, state = found
        if state in WAITING:
            ask(["scancel", number])
        else:
            ask(["scancel", "--batch", "--signal=TERM", number])
            say(f"asked Slurm job {number} to stop; it has {self.grace_s} s to checkpoint")
        deadline = time.monotonic() + self.grace_s
        while self._queued(started.id) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        if self._queued(started.id):
            ask(["scancel", number])
        return self.standing(started)

    def _queued(self, name: str) -> tuple[str, str] | None:
        """Number and state of my job of this name, while it waits or runs."""
        lines = ask(["squeue", "--me", "--noheader", f"--name={name}", "--format=%i %T"])
        found = [line.split() for line in lines.splitlines() if line.strip()]
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        alive = [(number, state) for number, state in found if state not in ended]
        return alive[-1] if alive else None


def ask(command: Sequence[str]) -> str:
    """What a command of Slurm answers.

    Raises:
        InfeasibleError: It isn't here, or it refuses.
    """
    if shutil.which(command[0]) is None:
        raise InfeasibleError(
            f"there is no {command[0]} on this host: submit from a login node of the Slurm "
            "cluster, or look at the script with --dry-run"
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InfeasibleError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _log(job: Job) -> str:
    return str(job.config.runs.absolute() / job.id / LOG)


def _check(job: Job) -> None:
    """Refuse what the script can't do.

    Raises:
        ConfigError: Says what to change.
    """
    environment(job.launch.env)
    if job.launch.grace_s >= job.launch.slurm.limit_s:
        raise ConfigError(
            f"launch.grace_s is {job.launch.grace_s}, not less than launch.slurm.limit_s "
            f"({job.launch.slurm.limit_s})"
        )
