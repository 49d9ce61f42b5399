"""The batch script for real: it starts Ray, plays a run, and asks to be requeued."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from orchestrator.runs import load_run
from tests.cluster.waiting import wait_for
from tests.orchestrator.helpers import addresses, play

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun", "hostname")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A folder with Slurm's commands for this node, first in the path."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    text = (Path(__file__).parent / "one_node_slurm.py").read_text()
    for name in COMMANDS:
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def test_the_script_plays_a_run_is_requeued_at_its_limit_and_goes_on(
    slurm, make_config, selftrain, write, tmp_path, capfd
):
    config = make_config(
        "placement.engine=ray",
        "placement.label_actors=0",
        "placement.checkpoint_every_s=0.3",
        "recipe.training.steps.first_round=500",
    )
    file = write(config, python=sys.executable, env=["PYTHONPATH"], slurm={"cpus": 1})
    submit = ("submit", "--to", "slurm", "run", file)

    assert selftrain(*submit, "--detach") == 0
    (run,) = [path.name for path in config.runs.iterdir()]
    wait_for(Path(config.store), "work/train-*/checkpoint.safetensors")
    os.kill(json.loads((slurm / "job.json").read_text())["pid"], signal.SIGUSR1)
    assert selftrain("logs", run, "--follow") == 75
    assert (slurm / "requeued").exists()
    (slurm / "requeued").unlink()
    assert load_run(config.runs / run).status == "interrupted"
    number = json.loads((slurm / "job.json").read_text())["number"]
    assert not Path(f"/tmp/ray-{number}").exists()

    capfd.readouterr()
    assert selftrain(*submit) == 0
    captured = capfd.readouterr()
    assert "delivers" in captured.out
    assert not (slurm / "requeued").exists()
    record = load_run(config.runs / run)
    local = play(make_config("recipe.training.steps.first_round=500", f"store={tmp_path}/own"))
    assert addresses(local) == addresses(record)
