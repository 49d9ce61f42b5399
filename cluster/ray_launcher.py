"""`--to ray`: the run as a job of a Ray cluster."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cluster import ray_jobs
from cluster.job import Job, environment, note_of, shell
from cluster.launcher import Say, Started
from cluster.package import Package, package_of
from cluster.standing import Standing, State
from orchestrator.errors import ConfigError, InfeasibleError, Interrupted
from orchestrator.launch import RayPlace
from orchestrator.tracking.secrets import NAMES, redact

Answer = TypeVar("Answer")
STATES: dict[str, State] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "finished",
    "STOPPED": "stopped",
    "FAILED": "failed",
}
HEAD = {"node:__internal_head__": 0.001}
"""Keeps the driver on the head node, and makes Ray treat it as a job that asked for no GPU."""
FIRST_PAUSE_S, LONGEST_PAUSE_S, LOOK_EVERY_S = 0.5, 10.0, 0.3
KILL_S = 15
"""Seconds beyond the grace until a stopped job must be gone."""


@dataclass(frozen=True)
class RayLauncher:
    """A Ray cluster, through its job server."""

    place: RayPlace
    grace_s: int
    again: bool = False
    """Start anew what has finished."""
    clients: list[Any] = field(default_factory=list)
    """The client, once it is connected."""

    def preview(self, job: Job) -> str:
        """The entrypoint, the runtime environment without values, and the copy's size."""
        package = _package(job)
        package.check()
        passed = dict.fromkeys(environment(_passed(job)), "(its value here)")
        shown = {
            "submission_id": job.id,
            "entrypoint": entrypoint(job),
            "runtime_env": {
                "working_dir": f"a copy of {package.root}",
                "env_vars": {**_settings(self.grace_s), **passed},
            },
            **self._resources(),
        }
        told = [json.dumps(redact(shown), indent=1), *package.lines(), note_of(job)]
        return "\n".join(filter(None, told))

    def start(self, job: Job, say: Say) -> Started:
        """Submit the job under its run's identity, or attach to what runs under it."""
        package = _package(job)
        package.check()
        passed = environment(_passed(job))
        newest = self._newest(job.id)
        if newest is not None:
            standing = standing_of(newest)
            if standing.command not in ("", entrypoint(job)) and standing.alive:
                say(f"{newest.submission_id} runs with another command: {standing.command}")
            done = standing.state == "finished" and standing.command == entrypoint(job)
            if standing.alive or (done and not self.again):
                return Started(job.id, newest.submission_id, attached=True)
        submission = next_attempt(job.id, newest and newest.submission_id)
        if (note := note_of(job)) is not None:
            say(note)
        say(f"copying {package.lines()[0]}")
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "package.zip"
            package.write(archive)
            request = {
                "submission_id": submission,
                "entrypoint": entrypoint(job),
                "runtime_env": {
                    "working_dir": str(archive),
                    "env_vars": {**_settings(self.grace_s), **passed},
                },
                "metadata": {"run": job.id, "verb": job.verb, "name": job.config.name},
                **self._resources(),
            }
            try:
                self._ask(lambda client: client.submit_job(**request), say)
            except InfeasibleError as error:
                if "already exists" not in str(error):
                    raise
                return Started(job.id, submission, attached=True)  # someone was quicker
        return Started(job.id, submission)

    def standing(self, started: Started) -> Standing:
        """Where the newest attempt of the run stands."""
        newest = self._newest(started.id)
        return Standing("unknown") if newest is None else standing_of(newest)

    def logs(self, started: Started, *, follow: bool) -> Iterator[str]:
        """What the newest attempt printed; a lost connection is taken up where it broke."""
        newest = self._newest(started.id)
        if newest is None:
            raise ConfigError(f"the Ray cluster knows no job {started.id}")
        submission = newest.submission_id
        if not follow:
            yield self._ask(lambda client: client.get_job_logs(submission))
            return
        given = 0
        while True:
            skip, broken = given, False
            try:
                for piece in ray_jobs.tail(self._client(), submission):
                    fresh, skip = piece[skip:], max(0, skip - len(piece))
                    given += len(fresh)
                    yield fresh
            except Exception:  # noqa: BLE001 - looked at again below, with patience
                broken = True
                self.clients.clear()
            if not broken or not self.standing(started).alive:
                return

    def stop(self, started: Started, say: Say) -> Standing:
        """SIGTERM to the driver, which stops at its next safe point; SIGKILL after the grace."""
        newest = self._newest(started.id)
        if newest is None:
            return Standing("unknown")
        standing = standing_of(newest)
        if not standing.alive:
            return standing
        self._ask(lambda client: client.stop_job(newest.submission_id))
        say(f"asked {newest.submission_id} to stop; it has {self.grace_s} s to checkpoint")
        deadline = time.monotonic() + self.grace_s + KILL_S
        while standing.alive and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
            standing = self.standing(started)
        return standing

    def _resources(self) -> dict[str, Any]:
        return {
            "entrypoint_num_cpus": self.place.driver_cpus,
            "entrypoint_num_gpus": 0,
            "entrypoint_resources": dict(HEAD),
        }

    def _client(self) -> Any:
        if not self.clients:
            self.clients.append(ray_jobs.connect(self.place.address))
        return self.clients[0]

    def _ask(self, question: Callable[[Any], Answer], say: Say | None = None) -> Answer:
        """Ask the job server, again with growing pauses while it comes up.

        Raises:
            InfeasibleError: It refuses, or stays silent for longer than the place's patience.
        """
        deadline, pause = time.monotonic() + self.place.patience_s, FIRST_PAUSE_S
        while True:
            try:
                return question(self._client())
            except Exception as error:
                if not ray_jobs.passing(error) or time.monotonic() + pause > deadline:
                    raise ray_jobs.explain(error, self.place.address) from error
                if say is not None and pause == FIRST_PAUSE_S:
                    say(f"waiting for the Ray cluster, at most {self.place.patience_s:g} s")
                self.clients.clear()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _newest(self, run: str) -> Any | None:
        """The newest attempt of a run."""
        jobs = self._ask(lambda client: client.list_jobs())
        mine = {attempt_of(run, job.submission_id or ""): job for job in jobs}
        numbers = [number for number in mine if number]
        return mine[max(numbers)] if numbers else None


def entrypoint(job: Job) -> str:
    """The shell line of the driver.

    Raises:
        ConfigError: The config can't be played there.
    """
    placement = job.config.placement
    if placement.ray_address not in (None, "auto"):
        raise ConfigError(
            f"placement.ray_address is {placement.ray_address}, but the run joins the cluster that "
            "it is submitted to: leave it out"
        )
    if job.verb == "run" and placement.use_gpu and not placement.train_workers:
        raise ConfigError(
            "placement.use_gpu is true, but placement.train_workers is 0: the driver would train, "
            "and it gets no GPU; set placement.train_workers to 1 or more"
        )
    return shell(job.command(config_there(job), moved=True))


def config_there(job: Job) -> str:
    """The config file's path in the copy of the working folder.

    Raises:
        ConfigError: It lies outside of that folder.
    """
    root = job.launch.working_dir.resolve()
    file = job.file.resolve()
    if not file.is_relative_to(root):
        raise ConfigError(f"{job.file} lies outside of launch.working_dir ({root})")
    return file.relative_to(root).as_posix()


def standing_of(details: Any) -> Standing:
    """Ray's details of a job in our words."""
    state = STATES.get(str(getattr(details.status, "value", details.status)), "unknown")
    code = details.driver_exit_code
    if state == "failed" and code == Interrupted.exit_code:
        state = "stopped"
    reason = ""
    if state == "failed" and code is None:
        reason = redact(" ".join(str(details.message or "").split()))[:600]
    return Standing(state, reason, code, str(details.entrypoint or ""))


def attempt_of(run: str, submission: str) -> int:
    """Which attempt of the run a submission is, from 1; 0 if it is none of it."""
    if submission == run:
        return 1
    found = re.fullmatch(rf"{re.escape(run)}--(\d+)", submission)
    return int(found[1]) if found else 0


def next_attempt(run: str, newest: str | None) -> str:
    """The submission after the newest one: Ray never takes the same name twice."""
    number = attempt_of(run, newest) + 1 if newest else 1
    return run if number == 1 else f"{run}--{number}"


def _package(job: Job) -> Package:
    return package_of(job.launch.working_dir.resolve(), job.launch.exclude, config_there(job))


def _passed(job: Job) -> tuple[str, ...]:
    """Names of the variables to pass, without those that must not stand in a job's record."""
    secret = [name for name in job.launch.env if NAMES.search(name)]
    if secret and not job.launch.ray.secrets:
        raise ConfigError(
            f"launch.env: {', '.join(secret)}: a Ray job shows its variables to everyone who may "
            "see jobs; set them on the nodes instead, or allow it with launch.ray.secrets: true"
        )
    return job.launch.env


def _settings(grace_s: int) -> dict[str, str]:
    return {
        "RAY_JOB_STOP_WAIT_TIME_S": str(grace_s),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who asks for no GPU sees none: the driver
    }
