"""Whether the operator would take a manifest: KubeRay's schema made strict, and its own rules."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from orchestrator.errors import ConfigError

SCHEMA = Path(__file__).parent / "schemas" / "kuberay.json"
Plain = dict[str, Any]


def check_manifests(manifests: Iterable[Plain], grace_s: int = 0) -> None:
    """Refuse manifests that the cluster would refuse; `grace_s` is what pods need to end.

    Raises:
        ConfigError: Lists every fault with its place.
    """
    faults = [fault for each in manifests for fault in faults_of(each, grace_s)]
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigError(f"manifest: {len(faults)} fault{'s'[: len(faults) > 1]}\n{listed}")


def faults_of(manifest: Plain, grace_s: int = 0) -> list[str]:
    """What is wrong with a manifest; the operator's rules only once its form is right."""
    kind = manifest.get("kind")
    known = [name for name in _schema()["$defs"] if name != "RayClusterSpec"]
    if kind not in known:
        return [f"kind: {kind!r}; known here: {', '.join(known)}"]
    validator = Draft202012Validator(_schema() | {"$ref": f"#/$defs/{kind}"})
    errors = sorted(validator.iter_errors(manifest), key=lambda error: list(map(str, error.path)))
    if errors:
        return [f"{kind}.{error.json_path.removeprefix('$.')}: {error.message}" for error in errors]
    rules: list[str] = []
    if kind in ("RayJob", "RayCluster"):
        rules += _name_rules(manifest["metadata"]["name"])
    if kind == "RayJob":
        rules += _job_rules(manifest["spec"])
    spec = manifest["spec"].get("rayClusterSpec") if kind == "RayJob" else manifest.get("spec")
    if spec is not None and kind != "ConfigMap":
        rules += _cluster_rules(spec, of_job=kind == "RayJob")
        rules += _pod_rules(spec, grace_s)
    return [f"{kind}.{rule}" for rule in rules]


@cache
def _schema() -> Plain:
    schema: Plain = json.loads(SCHEMA.read_text())
    return schema


def _name_rules(name: str) -> Iterator[str]:
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > 47:
        yield (
            f"metadata.name: {name!r} must be at most 47 lower-case letters, digits and dashes, a "
            "letter first"
        )


def _job_rules(spec: Plain) -> Iterator[str]:
    retries, ttl = spec.get("backoffLimit", 0), spec.get("ttlSecondsAfterFinished", 0)
    shuts = spec.get("shutdownAfterJobFinishes", False)
    if ttl < 0 or retries < 0:
        yield "spec: ttlSecondsAfterFinished and backoffLimit can't be negative"
    if ttl and not shuts:
        yield "spec.ttlSecondsAfterFinished: needs shutdownAfterJobFinishes: true"
    if spec.get("suspend") and not shuts:
        yield "spec.suspend: needs shutdownAfterJobFinishes: true"
    if shuts and spec.get("deletionStrategy", {}).get("deletionRules"):
        yield "spec.deletionStrategy: deletionRules exclude shutdownAfterJobFinishes and its ttl"
    if spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "spec.activeDeadlineSeconds: must be above 0"
    yield from _mode_rules(spec, retries)


def _mode_rules(spec: Plain, retries: int) -> Iterator[str]:
    mode, selector = spec.get("submissionMode", "K8sJobMode"), spec.get("clusterSelector")
    if (spec.get("rayClusterSpec") is None) == (selector is None):
        yield "spec: either rayClusterSpec or clusterSelector is needed, and not both"
    if retries and (selector is not None or mode == "InteractiveMode"):
        yield "spec.backoffLimit: not with clusterSelector or InteractiveMode"
    if selector is not None and (spec.get("suspend") or mode == "SidecarMode"):
        yield "spec.clusterSelector: neither with suspend nor with SidecarMode"
    if mode in ("SidecarMode", "InteractiveMode") and spec.get("submitterPodTemplate"):
        yield f"spec.submitterPodTemplate: not with {mode}"
    if mode == "SidecarMode" and spec.get("rayClusterSpec"):
        head = spec["rayClusterSpec"]["headGroupSpec"]["template"].get("spec", {})
        if head.get("restartPolicy") not in (None, "Never"):
            yield "spec: SidecarMode needs restartPolicy Never of the head"


def _cluster_rules(spec: Plain, *, of_job: bool) -> Iterator[str]:
    groups = spec.get("workerGroupSpecs", [])
    names = [group["groupName"] for group in groups]
    if len(set(names)) < len(names):
        yield f"workerGroupSpecs: group names must differ: {', '.join(names)}"
    for group in groups:
        least, most = group["minReplicas"], group["maxReplicas"]
        if not 0 <= least <= group.get("replicas", least) <= most:
            yield (
                f"workerGroupSpecs[{group['groupName']}]: minReplicas {least}, replicas "
                f"{group.get('replicas', least)} and maxReplicas {most} must rise"
            )
    auth = spec.get("authOptions", {})
    version = tuple(int(part) for part in re.findall(r"\d+", spec.get("rayVersion", ""))[:2])
    if auth.get("mode") == "token" and version < (2, 52):
        found = spec.get("rayVersion", "none")
        yield f"authOptions.mode: token needs rayVersion 2.52 or newer, found {found}"
    if auth.get("enableK8sTokenAuth") and (of_job or version < (2, 55)):
        yield "authOptions.enableK8sTokenAuth: not with RayJob, and not before rayVersion 2.55"
    for name, group in _groups(spec):
        doubled = {"num-cpus": "CPU", "num-gpus": "GPU", "memory": "memory"}
        for start, resource in doubled.items():
            if start in group.get("rayStartParams", {}) and resource in group.get("resources", {}):
                yield f"{name}: {resource} stands in both rayStartParams and resources"


def _pod_rules(spec: Plain, grace_s: int) -> Iterator[str]:
    second = spec.get("autoscalerOptions", {}).get("version") == "v2"
    for name, group in _groups(spec):
        pod = group["template"].get("spec")
        if pod is None or not pod["containers"]:
            yield f"{name}.template: a pod needs a container"
            continue
        if second and spec.get("enableInTreeAutoscaling") and pod.get("restartPolicy") != "Never":
            yield f"{name}.template.spec.restartPolicy: must be Never with autoscaler v2"
        if pod.get("terminationGracePeriodSeconds", 30) < grace_s:
            yield (
                f"{name}.template.spec.terminationGracePeriodSeconds: "
                f"{pod.get('terminationGracePeriodSeconds', 30)}, but a checkpoint may take "
                f"launch.grace_s = {grace_s}"
            )
        version, image = spec.get("rayVersion"), str(pod["containers"][0].get("image", ""))
        tagged = re.search(r"(?:/ray|ray-?):?(\d+\.\d+\.\d+)", image)
        if version and tagged and tagged[1] != version:
            yield f"{name}: image {image} has Ray {tagged[1]}, rayVersion is {version}"


def _groups(spec: Plain) -> Iterator[tuple[str, Plain]]:
    yield "headGroupSpec", spec["headGroupSpec"]
    for group in spec.get("workerGroupSpecs", []):
        yield f"workerGroupSpecs[{group['groupName']}]", group
