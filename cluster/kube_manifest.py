"""The manifests of a run on Kubernetes: its config, and a RayJob with a cluster of its own."""

import hashlib
import json
import re
from typing import Any

import yaml

from cluster.job import Job, paths_there
from orchestrator.errors import ConfigError
from orchestrator.launch import Launch, PodGroup
from orchestrator.tracking.secrets import redact

LONGEST_NAME = 47
"""KubeRay appends to names, and a name of Kubernetes has 63 characters."""
FOLDER = "/etc/selftrain"
FILE = "config.yaml"
SLACK_S = 30
"""Seconds beyond the grace until Kubernetes kills a pod."""
Plain = dict[str, Any]


def manifests_of(job: Job) -> list[Plain]:
    """A ConfigMap with the resolved config, and the RayJob.

    Raises:
        ConfigError: The job can't be run so; says what to change.
    """
    place = job.launch.kuberay
    _check(job)
    name = kube_name(job.id)
    labels = {"app.kubernetes.io/name": "selftrain", "app.kubernetes.io/instance": name}
    metadata = {"name": name, "namespace": place.namespace, "labels": labels}
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {FILE: _config_text(job)},
    }
    run = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {**metadata, "annotations": {"selftrain/run": job.id}},
        "spec": _job_spec(job, name),
    }
    return [config, run]


def kube_name(run: str) -> str:
    """The run's identity as Kubernetes and KubeRay take it: short, no dots, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"run-{plain}"
    if plain == run and len(plain) <= LONGEST_NAME:
        return plain
    mark = hashlib.sha256(run.encode()).hexdigest()[:8]
    return f"{plain[: LONGEST_NAME - 9].rstrip('-')}-{mark}"


def _check(job: Job) -> None:
    place, placement = job.launch.kuberay, job.config.placement
    if place.image is None:
        raise ConfigError(
            "launch.kuberay.image is required: build one with cluster/Containerfile and name it"
        )
    if job.launch.env and place.secret is None:
        raise ConfigError(
            f"launch.env: {', '.join(job.launch.env)}: on Kubernetes values come from a Secret, "
            "never from a manifest: make one with 'kubectl create secret generic NAME "
            "--from-env-file=FILE' and set launch.kuberay.secret: NAME"
        )
    if place.claim is not None and not (job.launch.shared or "").startswith("/"):
        raise ConfigError(
            f"launch.kuberay.claim is {place.claim}, but launch.shared is {job.launch.shared}: "
            "set it to the folder where every pod mounts the claim"
        )
    if placement.engine != "ray":
        return
    workers = placement.least_train_workers or placement.train_workers
    there = [group for group in (place.workers, place.spot) if group is not None]
    cpus, gpus = (sum(getattr(g, what) * g.least for g in there) for what in ("cpus", "gpus"))
    needed = max(1.0, workers * placement.cpus_per_worker)
    if needed > cpus:
        raise ConfigError(
            f"launch.kuberay: the pods that are always there have {cpus} CPUs, the run needs "
            f"{needed:g} when it starts: raise workers.least or workers.cpus"
        )
    if placement.use_gpu and workers * placement.gpus_per_worker > gpus:
        raise ConfigError(
            f"launch.kuberay: the pods that are always there have {gpus} GPUs, the run needs "
            f"{workers * placement.gpus_per_worker:g}: raise workers.least or workers.gpus"
        )


def _config_text(job: Job) -> str:
    """The resolved config as the driver reads it there."""
    plain = {k: v for k, v in job.config.plain().items() if k != "launch" and v is not None}
    for change in paths_there(job.config, job.launch):
        name, _, place = change.partition("=")
        plain[name] = place
    text = yaml.safe_dump(plain, sort_keys=False)
    if redact(text) != text:
        raise ConfigError(
            "the config holds credentials (in a URI, or the value of a secret variable), and "
            "would show them in a ConfigMap: leave them out, and put them into the Secret"
        )
    return text


def _job_spec(job: Job, name: str) -> Plain:
    place, grace_s = job.launch.kuberay, job.launch.grace_s
    command = f"{job.launch.python} -m orchestrator {job.verb} {FOLDER}/{FILE}"
    settings = {
        "RAY_JOB_STOP_WAIT_TIME_S": str(grace_s),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    }
    spec: Plain = {
        "entrypoint": command,
        "jobId": job.id,
        "submissionMode": place.mode,
        "entrypointNumCpus": job.launch.ray.driver_cpus,
        "entrypointNumGpus": 0,
        "entrypointResources": json.dumps({"node:__internal_head__": 0.001}),
        "runtimeEnvYAML": yaml.safe_dump({"env_vars": settings}),
        "metadata": {"run": job.id, "verb": job.verb},
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": place.keep_s,
        "backoffLimit": place.retries,
        "suspend": False,
        "rayClusterSpec": cluster_spec(job.launch, job.id, name),
    }
    if place.limit_s is not None:
        spec["activeDeadlineSeconds"] = place.limit_s
    return spec


def cluster_spec(launch: Launch, submission: str, config: str) -> Plain:
    """The cluster: a head with the driver and no other work, workers, workers on spot nodes."""
    place = launch.kuberay
    stop = f"ray job stop --address http://127.0.0.1:8265 {submission} || true"
    head = _template(launch, place.head, stop, config)
    groups = {"workers": place.workers, "spot": place.spot}
    spec: Plain = {
        "rayVersion": place.ray_version,
        "authOptions": {"mode": place.auth},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": head,
        },
        "workerGroupSpecs": [
            {
                "groupName": name,
                "replicas": group.most if place.autoscaler == "none" else group.least,
                "minReplicas": group.least,
                "maxReplicas": group.most,
                "rayStartParams": {},
                "template": _template(launch, group, "ray stop", None),
            }
            for name, group in groups.items()
            if group is not None
        ],
    }
    if place.autoscaler != "none":
        spec["enableInTreeAutoscaling"] = True
        spec["autoscalerOptions"] = {"version": place.autoscaler, "idleTimeoutSeconds": 60}
    return spec


def _template(launch: Launch, group: PodGroup, before_end: str, config: str | None) -> Plain:
    """The pods of a group; `config` is the ConfigMap to mount."""
    place = launch.kuberay
    mounts, volumes = [], []
    if config is not None:
        volumes.append({"name": "config", "configMap": {"name": config}})
        mounts.append({"name": "config", "mountPath": FOLDER, "readOnly": True})
    if place.claim is not None:
        volumes.append({"name": "shared", "persistentVolumeClaim": {"claimName": place.claim}})
        mounts.append({"name": "shared", "mountPath": str(launch.shared)})
    container: Plain = {
        "name": "ray",
        "image": place.image,
        "resources": _resources(group),
        "env": [{"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": str(launch.grace_s)}],
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", before_end]}}},
    }
    if place.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": place.secret}}]
    pod: Plain = {
        "containers": [container],
        "restartPolicy": "Never" if place.autoscaler == "v2" else "Always",
        "terminationGracePeriodSeconds": launch.grace_s + SLACK_S,
    }
    if mounts:
        container["volumeMounts"], pod["volumes"] = mounts, volumes
    if place.service_account is not None:
        pod["serviceAccountName"] = place.service_account
    if group.selector:
        pod["nodeSelector"] = group.selector
    if group.taint is not None:
        pod["tolerations"] = [{"key": group.taint, "operator": "Exists"}]
    return {"spec": pod}


def _resources(group: PodGroup) -> Plain:
    """The same as request and limit, so that Ray's view of a pod is what the pod has."""
    whole: Plain = {"cpu": str(group.cpus), "memory": group.memory}
    if group.gpus:
        whole["nvidia.com/gpu"] = str(group.gpus)
    return {"requests": whole, "limits": dict(whole)}
