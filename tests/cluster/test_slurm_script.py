"""The batch script: what Slurm is told, and that a shell takes it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.job import Job
from cluster.slurm_script import script_of
from orchestrator.launch import Launch
from orchestrator.loading import describe_faults


@pytest.fixture
def make_script(make_config):
    """The script of a quick run with these launch settings."""

    def make(**launch: object) -> str:
        config = make_config()
        job = Job(
            "quick-1234", "run", config, Path("/c/quick.yaml"), (), Launch.model_validate(launch)
        )
        return script_of(job, "/runs/slurm.log")

    return make


@pytest.mark.parametrize(
    "launch", [{}, {"slurm": {"nodes": 4, "gpus": 8, "setup": ["module load cuda"]}}]
)
def test_shellcheck_has_nothing_to_say(make_script, launch):
    script = make_script(**launch)
    checked = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin")
    assert checked, "pip install -e '.[dev]' brings shellcheck"
    done = subprocess.run([checked, "-"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_slurm_is_told_what_the_launch_says(make_script):
    script = make_script(
        grace_s=300,
        env=["WANDB_API_KEY"],
        slurm={
            "nodes": 4,
            "gpus": 8,
            "cpus": 64,
            "memory": "500G",
            "partition": "a100",
            "account": "vision",
            "limit_s": 90061,
            "options": ["--qos=high"],
        },
    )
    for line in (
        "--job-name=quick-1234",
        "--nodes=4",
        "--gpus-per-node=8",
        "--cpus-per-task=64",
        "--mem=500G",
        "--partition=a100",
        "--account=vision",
        "--time=1-01:01:01",
        "--signal=B:USR1@300",
        "--requeue",
        "--open-mode=append",
        "--qos=high",
        "--export=HOME,LANG,LOGNAME,PATH,SHELL,USER,WANDB_API_KEY",
    ):
        assert f"\n#SBATCH {line}\n" in script
    assert "--num-cpus=64 --num-gpus=8" in script
    assert "python -m orchestrator run /c/quick.yaml &" in script


def test_the_value_of_a_passed_variable_never_stands_in_the_script(make_script, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "canary-in-the-mine")
    assert "canary" not in make_script(env=["WANDB_API_KEY"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("options", ["--qos=high; rm -rf /"]),
        ("setup", ["one\ntwo"]),
        ("partition", "a b"),
        ("memory", "lots"),
        ("limit_s", 5),
    ],
)
def test_what_would_break_the_script_is_refused_with_its_field(field, value):
    from pydantic import ValidationError

    tree = {"slurm": {field: value}}
    with pytest.raises(ValidationError) as fault:
        Launch.model_validate(tree)
    assert f"slurm.{field}" in describe_faults(fault.value, Launch, tree, "launch")
