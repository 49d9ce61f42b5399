"""A run as a process of this machine: followed, found again, stopped, gone on with."""

import sys
from pathlib import Path

import pytest

from orchestrator.runs import load_run
from tests.cluster.waiting import wait_for
from tests.orchestrator.helpers import addresses, play

pytestmark = [pytest.mark.slow, pytest.mark.chaos]


def test_a_run_is_stopped_goes_on_and_equals_one_that_was_played_here(
    selftrain, write, make_config, tmp_path, capfd, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    settings = ("recipe.training.steps.first_round=500", "placement.checkpoint_every_s=0.3")
    config = make_config(*settings)
    submit = ("submit", "--to", "local", "run", write(config, python=sys.executable))

    assert selftrain(*submit, "--detach") == 0
    (run,) = [path.name for path in config.runs.iterdir()]
    wait_for(Path(config.store), "work/train-*/checkpoint.safetensors")
    assert selftrain(*submit, "--detach") == 0
    assert f"attached to {run} on local" in capfd.readouterr().err
    assert selftrain("stop", run) == 0
    assert f"{run}: stopped; submit it again to go on" in capfd.readouterr().out

    assert selftrain(*submit) == 0
    captured = capfd.readouterr()
    assert "delivers" in captured.out
    assert f"{run}: finished" in captured.err
    assert selftrain("logs", run) == 0
    assert "delivers" in capfd.readouterr().out
    local = play(make_config(*settings, f"store={tmp_path}/own"))
    assert addresses(local) == addresses(load_run(config.runs / run))


def test_the_exit_code_of_who_follows_tells_that_the_run_failed(
    selftrain, write, make_config, capfd, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    config = make_config("data=/no/such/folder")
    submit = ("submit", "--to", "local", "run", write(config, python=sys.executable))
    assert selftrain(*submit, "--id", "lost-1") == 4
    captured = capfd.readouterr()
    assert "holds no dataset.json" in captured.out
    assert "lost-1: failed; its log tells why; exit code 4" in captured.err
