"""Workers of a training that stand still, and tasks of a selection that are killed."""

import re
import signal
import time
from pathlib import Path

import pytest

from orchestrator.config import RunConfig
from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import prepare
from tests.orchestrator.helpers import addresses, play, table_of
from tests.orchestrator.processes import end, events, ray_process, start, wait_until
from tests.orchestrator.seconds import tell_lost
from tests.orchestrator.small_runs import record_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]
PATIENCE = ("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", "30")
FOUND_S = 45
"""Within this a worker that says nothing is found; Ray then ends it and the group."""


def begun(config: RunConfig, kind: str) -> bool:
    """Whether a step of this kind has begun."""
    return any(e["event"] == "step_started" and e["kind"] == kind for e in events(config))


def test_a_worker_that_stands_still_is_found_and_the_run_goes_on(
    make_config, tmp_path, monkeypatch
):
    monkeypatch.setenv(*PATIENCE)
    config = make_config(
        "recipe.training.steps.first_round=300",
        "recipe.policy={num_rounds: 1, label_last: false}",
        "placement.engine=ray",
        "placement.train_workers=1",
        "placement.retries=0",
        "placement.checkpoint_every_s=0.1",
    )
    process = start(config, tmp_path)
    kept = Path(config.store)
    assert wait_until(lambda: any(kept.glob("work/train-*/checkpoint.safetensors")), process)
    worker = ray_process(process.pid, "RayTrainWorker")
    assert worker is not None
    worker.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert wait_until(lambda: any(e["event"] == "run_failed" for e in events(config)), process)
    took = time.monotonic() - began
    output = end(process)
    assert process.returncode == 75, output
    told = re.search(r"training worker 0 failed: A worker health check .* for ([\d.]+) s", output)
    assert told is not None, output
    assert float(told[1]) < FOUND_S
    assert "start the same command again to go on from the newest checkpoint" in output
    tell_lost("training worker that stands still", took)
    assert "going on from step" in end(start(config, tmp_path))
    assert record_of(config).status == "finished"


def test_a_selecting_task_killed_in_mid_pass_loses_and_repeats_no_row(make_config, tmp_path):
    data = tmp_path / "resharded"  # into 70 fragments, which are selected from in Ray's tasks
    spec = PrepareSpec(labelled_per_class=10, validation=200, test=450, fragment_rows=15)
    prepare("digits", data, spec)
    settings = ("recipe.policy.num_rounds=1", "placement.label_actors=0")
    whole = play(make_config(*settings, f"store={tmp_path}/whole", data=data))
    config = make_config(*settings, "placement.engine=ray", data=data)
    process = start(config, tmp_path)
    assert wait_until(lambda: begun(config, "select"), process)
    assert wait_until(lambda: ray_process(process.pid, "ray::_call") is not None, process)
    task = ray_process(process.pid, "ray::_call")
    assert task is not None
    task.kill()
    output = end(process)
    assert process.returncode == 0, output
    record = record_of(config)
    assert addresses(record) == addresses(whole)
    select = record.rounds[0].steps["select"].address
    found = table_of(config.store, "select", select)
    assert found.equals(table_of(tmp_path / "whole", "select", select))
