"""What is sent to kubectl: started, found again, stopped, gone on with, started anew."""

import json
import os
import sys
from pathlib import Path

import pytest

PLACE = {"image": "team/selftrain:1", "namespace": "vision"}


@pytest.fixture
def kubectl(tmp_path, monkeypatch) -> Path:
    """A folder with a kubectl, first in the path; its calls are in calls.log."""
    folder = tmp_path / "bin"
    folder.mkdir()
    text = (Path(__file__).parent / "one_kubectl.py").read_text()
    (folder / "kubectl").write_text(f"#!{sys.executable}\n{text}")
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def submit(selftrain, write, make_config, kubectl):
    """Submits a quick run to Kubernetes; the verbs that kubectl heard."""
    file = write(make_config("placement.engine=ray"), kuberay=PLACE)

    def run(*options: str) -> list[str]:
        (kubectl / "calls.log").write_text("")
        assert selftrain("submit", "--to", "kuberay", "run", file, "--detach", *options) == 0
        return [line.split()[2] for line in (kubectl / "calls.log").read_text().splitlines()]

    return run


def set_status(kubectl: Path, **status: str) -> None:
    """Let the RayJob be in this state."""
    path = kubectl / "rayjob.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status}))


def test_a_run_is_applied_once_and_then_found(submit, kubectl):
    assert submit() == ["get", "apply"]
    assert submit() == ["get"]
    set_status(kubectl, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    assert submit() == ["get"]
    assert submit("--again") == ["get", "delete", "apply"]
    job = json.loads((kubectl / "rayjob.json").read_text())
    assert job["metadata"]["namespace"] == "vision"
    assert "--namespace vision" in (kubectl / "calls.log").read_text()


def test_a_run_that_failed_is_started_anew(submit, kubectl):
    submit()
    set_status(kubectl, jobDeploymentStatus="Failed", jobStatus="FAILED")
    assert submit() == ["get", "delete", "apply"]


def test_a_run_is_stopped_by_suspending_it_and_goes_on_when_submitted(
    submit, kubectl, selftrain, capsys
):
    submit()
    (run,) = [path.name for path in Path("runs").iterdir()]
    set_status(kubectl, jobDeploymentStatus="Running", jobStatus="RUNNING")
    assert selftrain("status", run) == 0
    assert selftrain("stop", run) == 0
    out = capsys.readouterr().out
    assert f"{run}: running" in out
    assert f"{run}: stopped; Suspended; submit it again to go on" in out
    assert json.loads((kubectl / "rayjob.json").read_text())["spec"]["suspend"] is True
    assert submit() == ["get", "apply"]
    assert json.loads((kubectl / "rayjob.json").read_text())["spec"]["suspend"] is False


def test_the_log_is_that_of_the_pod_that_submits_the_driver(submit, kubectl, selftrain, capsys):
    submit()
    (run,) = [path.name for path in Path("runs").iterdir()]
    assert selftrain("logs", run) == 0
    assert capsys.readouterr().out == "round 0  train\n"
    assert f"logs -l job-name={run} --tail=-1" in (kubectl / "calls.log").read_text()


def test_a_failure_is_told_with_the_operators_reason(submit, kubectl, selftrain, capsys):
    submit()
    (run,) = [path.name for path in Path("runs").iterdir()]
    set_status(kubectl, jobDeploymentStatus="Failed", reason="AppFailed", message="exit 4")
    assert selftrain("status", run) == 0
    assert f"{run}: failed; AppFailed: exit 4" in capsys.readouterr().out
