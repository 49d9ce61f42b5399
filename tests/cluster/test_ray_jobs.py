"""A Ray cluster with token authentication on this host, and a run that is submitted to it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.runs import load_run
from orchestrator.store.store import Store
from tests.cluster.waiting import wait_for
from tests.orchestrator.helpers import addresses, play

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]
PORT = 23400 + os.getpid() % 50 * 20
ADDRESS = f"http://127.0.0.1:{PORT + 1}"
TEMP = Path(f"/tmp/ray-{os.getpid()}")  # short: sockets lie below it
TOKEN = "0123456789abcdef" * 4
PATIENCE_S = 60


@pytest.fixture
def head(tmp_path_factory) -> Iterator[str]:
    """The address of a cluster of one node that asks for a token; it may still be coming up."""
    folder = tmp_path_factory.mktemp("r")
    ports = {
        "port": PORT,
        "dashboard-port": PORT + 1,
        "dashboard-agent-listen-port": PORT + 2,
        "ray-client-server-port": PORT + 3,
        "num-cpus": 1,
        "object-store-memory": 200 * 2**20,
    }
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--disable-usage-stats"),
        *(f"--{name}={value}" for name, value in ports.items()),
        f"--temp-dir={TEMP}",
    ]
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    yield ADDRESS
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)
    _, left = psutil.wait_procs(family, timeout=10)
    for each in left:
        each.kill()
    shutil.rmtree(TEMP, ignore_errors=True)


def test_a_submitted_run_is_stopped_resumed_found_again_and_equals_a_local_one(
    head, make_config, selftrain, write, tmp_path, monkeypatch, capfd
):
    config = make_config(
        "placement.engine=ray",
        "placement.label_actors=0",
        "placement.checkpoint_every_s=0.3",
        "recipe.training.steps.first_round=500",
    )
    ray = {"address": head, "patience_s": 60}
    file = write(config, python=sys.executable, grace_s=60, ray=ray)
    submit = ("submit", "--to", "ray", "run", file)

    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert selftrain(*submit, "--detach") == 0
    assert "started quick-" in capfd.readouterr().err
    (run,) = [path.name for path in config.runs.iterdir()]
    wait_for(Path(config.store), "work/train-*/checkpoint.safetensors")
    assert selftrain("status", run) == 0
    assert selftrain("stop", run) == 0
    out = capfd.readouterr().out
    assert f"{run}: running" in out
    assert f"{run}: stopped" in out
    assert load_run(config.runs / run).status == "interrupted"

    assert selftrain(*submit) == 0
    captured = capfd.readouterr()
    assert f"started {run} on ray, as {run}--2" in captured.err
    assert "round 1" in captured.out
    assert "Round" in captured.out and "delivers" in captured.out
    record = load_run(config.runs / run)
    trained = Store(config.store).record("train", record.rounds[0].steps["train"].address)
    assert trained.counts["steps"] == 500
    assert trained.counts["steps_this_attempt"] < 500

    assert selftrain(*submit) == 0
    captured = capfd.readouterr()
    assert f"attached to {run} on ray, as {run}--2" in captured.err
    assert "delivers" in captured.out

    local = play(config.model_copy(update={"store": str(tmp_path / "own"), "placement": here()}))
    assert addresses(local) == addresses(record)
    assert [r.test for r in local.rounds] == [r.test for r in record.rounds]

    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong" * 10)
    assert selftrain("status", run) == 3
    assert "wants a token" in capfd.readouterr().err


def here():
    """A placement in this process."""
    from orchestrator.config import Placement

    return Placement(engine="local")
