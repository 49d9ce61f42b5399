"""From KubeRay's CRDs to the strict JSON schema that is kept here.

    python -m cluster.crd_schema ray.io_rayjobs.yaml ray.io_rayclusters.yaml "SOURCE" > OUT.json

A CRD lets unknown fields pass, and three quarters of it describe volumes that nobody mounts here.
What is kept of a pod is listed below; everything of RayJob and RayCluster themselves is kept.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

KEPT = {
    "": {"metadata", "spec"},
    "metadata": {"annotations", "labels"},
    "spec": {
        "containers", "imagePullSecrets", "nodeSelector", "priorityClassName", "restartPolicy",
        "serviceAccountName", "terminationGracePeriodSeconds", "tolerations", "volumes",
    },
    "spec.containers": {
        "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "name",
        "ports", "resources", "volumeMounts", "workingDir",
    },
    "spec.containers.env": {"name", "value", "valueFrom"},
    "spec.containers.env.valueFrom": {"fieldRef", "secretKeyRef"},
    "spec.containers.envFrom": {"secretRef"},
    "spec.containers.lifecycle": {"preStop"},
    "spec.containers.lifecycle.preStop": {"exec"},
    "spec.volumes": {"configMap", "emptyDir", "name", "persistentVolumeClaim", "secret"},
}  # fmt: skip
"""Fields of a pod's template that manifests here may have, by path; below others all are kept."""
SUBMISSION_MODES = ["HTTPMode", "InteractiveMode", "K8sJobMode", "SidecarMode"]
"""The CRD takes any string; the operator takes these."""


def schema_of(job: dict[str, Any], cluster: dict[str, Any], source: str) -> dict[str, Any]:
    """One strict schema for manifests of kind RayJob, RayCluster and ConfigMap."""
    of_job, of_cluster = (_v1(crd) for crd in (job, cluster))
    of_job["properties"]["submissionMode"]["enum"] = SUBMISSION_MODES
    of_job["properties"]["rayClusterSpec"] = {"$ref": "#/$defs/RayClusterSpec"}
    name = {"type": "string"}
    metadata = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": name,
            "namespace": name,
            "labels": {"type": "object", "additionalProperties": name},
            "annotations": {"type": "object", "additionalProperties": name},
        },
    }
    kinds = {
        "RayJob": ("ray.io/v1", "spec", of_job),
        "RayCluster": ("ray.io/v1", "spec", {"$ref": "#/$defs/RayClusterSpec"}),
        "ConfigMap": ("v1", "data", {"type": "object", "additionalProperties": name}),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": source,
        "$defs": {"RayClusterSpec": of_cluster}
        | {
            kind: {
                "type": "object",
                "additionalProperties": False,
                "required": ["apiVersion", "kind", "metadata", field],
                "properties": {
                    "apiVersion": {"const": version},
                    "kind": {"const": kind},
                    "metadata": metadata,
                    field: schema,
                },
            }
            for kind, (version, field, schema) in kinds.items()
        },
    }


def _v1(crd: dict[str, Any]) -> Any:
    (version,) = [each for each in crd["spec"]["versions"] if each["name"] == "v1"]
    return strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


def strict(node: Any, path: str | None = None) -> Any:
    """The schema where unknown fields are refused; `path` lies inside a pod's template."""
    if not isinstance(node, dict):
        return [strict(part, path) for part in node] if isinstance(node, list) else node
    out = {
        key: part
        for key, part in node.items()
        if not key.startswith("x-")
        and key not in ("description", "format", "default")
        and key not in ("properties", "items", "additionalProperties")
    }
    if "items" in node:
        out["items"] = strict(node["items"], path)
    if "additionalProperties" in node:
        out["additionalProperties"] = strict(node["additionalProperties"], path)
    if "properties" in node:
        kept = KEPT.get(path) if path is not None else None
        out["properties"] = {
            name: strict(part, _below(path, name))
            for name, part in node["properties"].items()
            if kept is None or name in kept
        }
        out["additionalProperties"] = False
    return out


def _below(path: str | None, name: str) -> str | None:
    if path is None:
        return "" if name in ("template", "submitterPodTemplate") else None
    return f"{path}.{name}" if path else name


if __name__ == "__main__":
    crds = [yaml.safe_load(Path(name).read_text()) for name in sys.argv[1:3]]
    sys.stdout.write(json.dumps(schema_of(crds[0], crds[1], sys.argv[3]), sort_keys=True) + "\n")
