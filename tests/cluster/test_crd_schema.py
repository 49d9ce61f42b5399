"""The schema that is kept: made from KubeRay's CRDs, strict, and told where from."""

import json

import pytest
from jsonschema import Draft202012Validator, ValidationError

from cluster.crd_schema import schema_of, strict
from cluster.kube_rules import SCHEMA


def crd(**fields: dict) -> dict:
    """A custom resource definition with these fields of its spec."""
    spec = {"type": "object", "properties": fields}
    schema = {"openAPIV3Schema": {"properties": {"spec": spec}}}
    return {"spec": {"versions": [{"name": "v1alpha1"}, {"name": "v1", "schema": schema}]}}


POD = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "containers": {"type": "array", "items": {"properties": {"tty": {}, "name": {}}}},
                "hostPID": {"type": "boolean"},
            },
        },
        "metadata": {"properties": {"finalizers": {}, "labels": {}}},
    },
}


def test_unknown_fields_are_refused_and_open_maps_stay_open():
    schema = strict(
        {
            "type": "object",
            "properties": {"a": {}, "b": {"additionalProperties": {"type": "string"}}},
        }
    )
    Draft202012Validator(schema).validate({"a": 1, "b": {"any": "thing"}})
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate({"c": 1})


def test_of_a_pod_only_what_manifests_use_is_kept():
    pod = strict({"properties": {"template": POD}})["properties"]["template"]["properties"]
    assert set(pod["spec"]["properties"]) == {"containers"}
    assert set(pod["spec"]["properties"]["containers"]["items"]["properties"]) == {"name"}
    assert set(pod["metadata"]["properties"]) == {"labels"}


def test_the_operators_modes_stand_in_the_schema():
    job = crd(submissionMode={"type": "string"}, rayClusterSpec={"type": "object"})
    schema = schema_of(job, crd(rayVersion={"type": "string"}), "here")
    modes = schema["$defs"]["RayJob"]["properties"]["spec"]["properties"]["submissionMode"]
    assert "K8sJobMode" in modes["enum"]


def test_the_schema_that_is_kept_is_a_schema_and_names_its_source():
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    assert "KubeRay" in schema["$comment"] and "Apache-2.0" in schema["$comment"]
