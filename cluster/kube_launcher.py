"""`--to kuberay`: the run as a RayJob, through kubectl."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from cluster.job import Job, note_of
from cluster.kube_manifest import SLACK_S, kube_name, manifests_of
from cluster.kube_rules import check_manifests
from cluster.launcher import Say, Started
from cluster.standing import Standing, State
from orchestrator.errors import ConfigError, InfeasibleError
from orchestrator.launch import KubePlace

BY_JOB: dict[str, State] = {
    "RUNNING": "running",
    "SUCCEEDED": "finished",
    "STOPPED": "stopped",
    "FAILED": "failed",
}
BY_DEPLOYMENT: dict[str, State] = {
    "Suspended": "stopped",
    "Suspending": "running",
    "Complete": "finished",
    "Failed": "failed",
    "ValidationFailed": "failed",
    "Retrying": "waiting",
}
LOOK_EVERY_S = 2.0


class _Readable(yaml.SafeDumper):
    """Texts of several lines as such."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Readable.add_representer(str, _Readable.represent_str)


@dataclass(frozen=True)
class KubeLauncher:
    """A Kubernetes cluster with KubeRay, as kubectl is set up to reach it."""

    place: KubePlace
    grace_s: int
    again: bool = False
    """Start anew what has finished."""

    def preview(self, job: Job) -> str:
        """The manifests, checked against KubeRay's schema and rules."""
        manifests = manifests_of(job)
        check_manifests(manifests, job.launch.grace_s)
        return yaml.dump_all(manifests, Dumper=_Readable, sort_keys=False)

    def start(self, job: Job, say: Say) -> Started:
        """Apply the manifests; a run that was stopped goes on, one that failed starts anew."""
        text = self.preview(job)
        started = Started(job.id, kube_name(job.id))
        standing = self.standing(started)
        if standing.alive or (standing.state == "finished" and not self.again):
            return Started(job.id, started.place_id, attached=True)
        if standing.state in ("failed", "finished"):
            say(f"deleting the {standing.state} RayJob {started.place_id}")
            self._kubectl("delete", "rayjob", started.place_id, "--wait=true")
        if (note := note_of(job)) is not None:
            say(note)
        self._kubectl("apply", "-f", "-", text=text)
        return started

    def standing(self, started: Started) -> Standing:
        """Where it stands, by the RayJob's status."""
        answer = self._kubectl(
            "get", "rayjob", kube_name(started.id), "-o", "json", "--ignore-not-found"
        )
        return standing_of(json.loads(answer)) if answer.strip() else Standing("unknown")

    def logs(self, started: Started, *, follow: bool) -> Iterator[str]:
        """What the pod that submits the driver printed, which is what the driver printed."""
        name = kube_name(started.id)
        if self.place.mode == "HTTPMode":
            raise ConfigError(
                "in HTTPMode no pod holds the driver's log: forward the dashboard with 'kubectl "
                f"port-forward service/HEAD 8265', then selftrain logs --to ray {started.id}"
            )
        label = f"job-name={name}"
        container: tuple[str, ...] = ()
        if self.place.mode == "SidecarMode":
            label, container = "ray.io/node-type=head", ("-c", "ray-job-submitter")
        options = ("logs", "-l", label, *container, "--tail=-1")
        if not follow:
            yield self._kubectl(*options)
            return
        told = ""
        while (standing := self.standing(started)).state == "waiting":
            if standing.reason != told:
                told = standing.reason
                yield f"waiting for the cluster: {told}\n"
            time.sleep(LOOK_EVERY_S)
        command = [*self._base(), *options, "--follow"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None  # noqa: S101 - it is a pipe
            try:
                yield from child.stdout
            finally:
                child.terminate()
        while self.standing(started).alive:
            time.sleep(LOOK_EVERY_S)

    def stop(self, started: Started, say: Say) -> Standing:
        """Suspend the RayJob: the head's hook stops the driver, then the pods go."""
        standing = self.standing(started)
        if not standing.alive:
            return standing
        change = json.dumps({"spec": {"suspend": True}})
        self._kubectl("patch", "rayjob", kube_name(started.id), "--type=merge", "-p", change)
        say(f"suspending {kube_name(started.id)}; it has {self.grace_s} s to checkpoint")
        deadline = time.monotonic() + self.grace_s + SLACK_S
        while standing.alive and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
            standing = self.standing(started)
        return standing

    def _base(self) -> list[str]:
        if shutil.which("kubectl") is None:
            raise InfeasibleError(
                "there is no kubectl on this host: install it, or apply what --dry-run prints "
                "where there is one"
            )
        return ["kubectl", "--namespace", self.place.namespace]

    def _kubectl(self, *arguments: str, text: str | None = None) -> str:
        command = [*self._base(), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InfeasibleError(f"kubectl {arguments[0]}: {done.stderr.strip()}")
        return done.stdout


def standing_of(manifest: dict[str, Any]) -> Standing:
    """The status of a RayJob in our words."""
    status = manifest.get("status", {})
    deployment = status.get("jobDeploymentStatus", "")
    state = BY_DEPLOYMENT.get(deployment) or BY_JOB.get(status.get("jobStatus", ""), "waiting")
    reason = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
    return Standing(state, reason[:600] if state == "failed" else deployment)
