"""What Kubernetes or the operator would refuse is refused before it is sent."""

import copy
from pathlib import Path

import pytest

from cluster.job import Job
from cluster.kube_manifest import kube_name, manifests_of
from cluster.kube_rules import check_manifests, faults_of
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.launch import Launch
from orchestrator.loading import load_config
from orchestrator.runs import run_id

SPOT = {"cpus": 8, "gpus": 1, "least": 0, "most": 16, "selector": {"pool": "spot"}, "taint": "spot"}
LAUNCH = {"kuberay": {"image": "team/selftrain:1", "spot": SPOT, "secret": "wandb"}, "grace_s": 300}


@pytest.fixture
def manifests(make_config):
    """The manifests of a quick run, with workers on spot nodes."""
    config = make_config("placement.engine=ray")
    launch = Launch.model_validate(LAUNCH)
    return manifests_of(Job("quick-1234abcd", "run", config, Path("quick.yaml"), (), launch))


@pytest.fixture
def job(manifests):
    """The RayJob among them, to be changed."""
    return copy.deepcopy(manifests[1])


def change(manifest: dict, path: str, value: object) -> None:
    """Set a field; a number in the path is an index."""
    *heads, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for head in heads:
        manifest = manifest[head]
    manifest[last] = value


def test_what_is_rendered_is_taken(manifests):
    check_manifests(manifests, grace_s=300)


POD = {"spec": {"containers": [{"name": "submitter"}]}}
CLUSTER = "spec.rayClusterSpec"
WORKERS = f"{CLUSTER}.workerGroupSpecs.0"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("spec.backoffLimit", "3", "'3' is not of type 'integer'"),
        ("spec.submissionMode", "K8SJobMode", "'K8SJobMode' is not one of"),
        (f"{WORKERS}.minReplica", 1, "'minReplica' was unexpected"),
        (f"{WORKERS}.template.spec.container", [], "'container' was unexpected"),
        (f"{WORKERS}.template.spec.containers.0.resources.limits.cpu", "four", "does not match"),
        (f"{CLUSTER}.headGroupSpec", {}, "'template' is a required property"),
        (f"{CLUSTER}.authOptions.mode", "password", "not one of"),
        ("apiVersion", "ray.io/v1alpha1", "'ray.io/v1' was expected"),
    ],
)
def test_a_fault_of_form_is_named_with_its_place(job, path, value, fault):
    change(job, path, value)
    (found,) = faults_of(job)
    assert fault in found
    assert found.startswith("RayJob")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"metadata.name": "a" * 48}, "at most 47"),
        ({"metadata.name": "9lives"}, "a letter first"),
        ({"spec.shutdownAfterJobFinishes": False}, "needs shutdownAfterJobFinishes"),
        (
            {"spec.suspend": True, "spec.shutdownAfterJobFinishes": False},
            "suspend: needs shutdownAfterJobFinishes",
        ),
        ({"spec.submissionMode": "InteractiveMode"}, "backoffLimit: not with"),
        ({"spec.clusterSelector": {"a": "b"}}, "either rayClusterSpec or clusterSelector"),
        (
            {"spec.submissionMode": "SidecarMode", "spec.submitterPodTemplate": POD},
            "submitterPodTemplate: not with SidecarMode",
        ),
        ({f"{WORKERS}.template.spec.restartPolicy": "Always"}, "Never with autoscaler v2"),
        ({f"{CLUSTER}.rayVersion": "2.51.0"}, "2.52 or newer, found 2.51.0"),
        ({f"{CLUSTER}.authOptions.enableK8sTokenAuth": True}, "not with RayJob"),
        ({f"{WORKERS}.minReplicas": 5}, "must rise"),
        ({f"{CLUSTER}.workerGroupSpecs.1.groupName": "workers"}, "names must differ"),
        (
            {f"{WORKERS}.rayStartParams.num-cpus": "4", f"{WORKERS}.resources": {"CPU": "4"}},
            "both rayStartParams and resources",
        ),
        ({f"{WORKERS}.template.spec.terminationGracePeriodSeconds": 30}, "launch.grace_s = 300"),
        ({f"{WORKERS}.template.spec.containers.0.image": "rayproject/ray:2.54.0"}, "has Ray 2.54"),
    ],
)
def test_a_rule_of_the_operator_is_held(job, changes, fault):
    for path, value in changes.items():
        change(job, path, value)
    found = faults_of(job, grace_s=300)
    assert fault in " ".join(found)


def test_all_faults_are_told_at_once(job):
    change(job, "spec.backoffLimit", -1)
    change(job, f"{WORKERS}.minReplicas", 5)
    with pytest.raises(ConfigError, match=r"2 faults(.|\n)*negative(.|\n)*must rise"):
        check_manifests([job])


def test_another_kind_is_refused():
    assert "RayJob" in faults_of({"kind": "Deployment"})[0]


def test_pods_have_time_to_checkpoint_and_are_told_to_stop(job):
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["terminationGracePeriodSeconds"] == 330
    hook = head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert "ray job stop" in hook[-1] and "quick-1234abcd" in hook[-1]
    assert "RAY_JOB_STOP_WAIT_TIME_S: '300'" in job["spec"]["runtimeEnvYAML"]


def test_spot_workers_go_where_spot_nodes_are(job):
    _, spot = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    pod = spot["template"]["spec"]
    assert (spot["minReplicas"], spot["maxReplicas"]) == (0, 16)
    assert pod["nodeSelector"] == {"pool": "spot"}
    assert pod["tolerations"] == [{"key": "spot", "operator": "Exists"}]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_config_that_is_sent_has_the_identity_of_the_one_that_was_given(
    manifests, make_config, tmp_path
):
    (tmp_path / "sent.yaml").write_text(manifests[0]["data"]["config.yaml"])
    given, sent = make_config("placement.engine=ray"), load_config(tmp_path / "sent.yaml")
    data = Dataset(given.data)
    assert run_id(sent, data) == run_id(given, data)
    assert sent == given


def test_secrets_come_from_a_secret(job):
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "wandb"}}]


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("digits-1a2b3c4d", "digits-1a2b3c4d"),
        ("my.run_2-1a2b3c4d", "my-run-2-1a2b3c4d-"),
        ("9lives-1a2b3c4d", "run-9lives-1a2b3c4d-"),
        ("x" * 60, "x" * 38 + "-"),
    ],
)
def test_a_name_is_one_for_kubernetes_and_differs_where_runs_do(run, name):
    assert kube_name(run).startswith(name)
    assert len(kube_name(run)) <= 47
    assert kube_name(run) != kube_name(f"{run}.")
