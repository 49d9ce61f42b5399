"""Interrupted = uninterrupted: real processes, killed with SIGKILL, started again.

The killer follows the event log, which is written to disk before a step goes on.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from orchestrator.config import RunConfig
from orchestrator.runs import RunRecord, load_run
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, computed, play
from tests.orchestrator.processes import end, events, ray_process, start, wait_until
from tests.orchestrator.seconds import longest_silence, tell_lost

pytestmark = pytest.mark.slow


def only_record(config: RunConfig) -> RunRecord:
    (folder,) = config.runs.glob("*/run.json")
    return load_run(folder.parent)


def same_outcome(config: RunConfig, other: RunConfig) -> None:
    """Both runs have the same addresses, byte-identical selections and the same metrics."""
    ours, theirs = only_record(config), only_record(other)
    assert addresses(ours) == addresses(theirs)
    assert [r.validation for r in ours.rounds] == [r.validation for r in theirs.rounds]
    assert [r.test for r in ours.rounds] == [r.test for r in theirs.rounds]
    for each in theirs.rounds:
        for name in ("label", "select"):
            address = each.steps[name].address
            files = [Store(c.store).record(name, address).files for c in (config, other)]
            assert files[0] == files[1]


@pytest.fixture
def pair(make_config, tmp_path) -> tuple[RunConfig, RunConfig]:
    """One config to be killed, and the same with a store and runs of its own, uninterrupted."""
    steps = (
        "recipe.training.steps={first_round: 60, base: 60}",
        "placement.checkpoint_every_s=0.05",
        "placement.threads=1",
    )
    killed = make_config(*steps)
    whole = make_config(*steps, f"store={tmp_path}/s2", f"runs={tmp_path}/r2")
    play(whole)
    return killed, whole


def test_killed_at_every_step_boundary(pair, tmp_path):
    config, whole = pair
    boundaries = sum(len(r.steps) for r in only_record(whole).rounds)
    kills = 0
    for boundary in range(1, boundaries):
        process = start(config, tmp_path)

        def reached(wanted: int = boundary) -> bool:
            seen = {e["address"] for e in events(config) if e["event"] == "step_finished"}
            return len(seen) >= wanted

        if wait_until(reached, process) and process.poll() is None:
            process.kill()
            kills += 1
        end(process)
    assert end(start(config, tmp_path))
    assert kills >= boundaries - 3  # the last steps may be over before the signal arrives
    same_outcome(config, whole)


def test_killed_in_the_middle_of_training_goes_on_from_the_checkpoint(pair, tmp_path):
    config, whole = pair
    process = start(config, tmp_path)
    kept = Path(config.store)
    assert wait_until(lambda: any(kept.glob("work/train-*/checkpoint.safetensors")), process)
    process.kill()
    end(process)
    output = end(start(config, tmp_path))
    assert "going on from step" in output
    same_outcome(config, whole)


def test_killed_in_the_middle_of_labelling_keeps_finished_fragments(pair, tmp_path):
    config, whole = pair
    process = start(config, tmp_path)
    kept = Path(config.store)
    assert wait_until(lambda: any(kept.glob("work/label-*/part-*.json")), process)
    process.kill()
    end(process)
    assert "status" in json.loads(end(start(config, tmp_path, "--json")).splitlines()[-1])
    same_outcome(config, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_one_signal_stops_at_a_safe_point_with_exit_code_75(pair, tmp_path, number):
    config, whole = pair
    process = start(config, tmp_path)
    assert wait_until(lambda: any(e["event"] == "progress" for e in events(config)), process)
    process.send_signal(number)
    output = end(process)
    assert process.returncode == 75, output
    assert "the same command goes on from here" in output
    assert only_record(config).status == "interrupted"
    end(start(config, tmp_path))
    same_outcome(config, whole)


def test_a_second_signal_ends_the_process_now(make_config, tmp_path):
    config = make_config("recipe.training.steps.first_round=100000")
    process = start(config, tmp_path)
    assert wait_until(lambda: any(e["event"] == "progress" for e in events(config)), process)
    os.kill(process.pid, signal.SIGSTOP)  # both signals are there when it goes on
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    end(process)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_a_second_process_on_the_same_run_waits_and_finds_every_step(pair, tmp_path):
    config, whole = pair
    first = start(config, tmp_path)
    assert wait_until(lambda: any(e["event"] == "step_started" for e in events(config)), first)
    os.kill(first.pid, signal.SIGSTOP)  # it holds the lease until the second one has seen it
    second = start(config, tmp_path)
    assert second.stdout is not None
    told = next((line for line in second.stdout if "waiting for it" in line), "")
    os.kill(first.pid, signal.SIGCONT)
    end(first)
    end(second)
    assert first.returncode == second.returncode == 0
    assert f"process {first.pid}" in told
    done = [
        e["address"]
        for e in events(config)
        if e["event"] == "step_finished" and not e["from_store"]
    ]
    assert len(done) == len(set(done))
    same_outcome(config, whole)


@pytest.mark.ray
def test_a_labelling_actor_killed_in_mid_pass_loses_and_repeats_no_row(pair, tmp_path):
    config, whole = pair
    config = config.model_copy(
        update={"placement": config.placement.model_copy(update={"engine": "ray"})}
    )
    process = start(config, tmp_path)
    kept = Path(config.store)
    assert wait_until(lambda: any(kept.glob("work/label-*/part-*.json")), process)
    actor = ray_process(process.pid, "ray::MapWorker")
    assert actor is not None
    actor.kill()
    output = end(process)
    assert process.returncode == 0, output
    same_outcome(config, whole)
    tell_lost("labelling actor killed", longest_silence(events(config)))


@pytest.mark.ray
def test_a_training_worker_killed_in_mid_step_is_replaced_and_goes_on(pair, tmp_path):
    config, whole = pair
    placement = config.placement.model_copy(update={"engine": "ray", "train_workers": 1})
    recipe = config.recipe.model_copy(
        update={"policy": config.recipe.policy.model_copy(update={"num_rounds": 1})}
    )
    config = config.model_copy(update={"placement": placement, "recipe": recipe})
    process = start(config, tmp_path)
    kept = Path(config.store)
    assert wait_until(lambda: any(kept.glob("work/train-*/checkpoint.safetensors")), process)
    worker = ray_process(process.pid, "RayTrainWorker")
    assert worker is not None
    worker.kill()
    output = end(process)
    assert process.returncode == 0, output
    record = only_record(config)
    trained = Store(config.store).record("train", record.rounds[0].steps["train"].address)
    assert 0 < trained.counts["steps_this_attempt"] < trained.counts["steps"]
    expected = only_record(whole).rounds[0]
    assert record.rounds[0].steps["train"].address == expected.steps["train"].address
    assert record.rounds[0].test == expected.test
    assert computed(record)
    tell_lost("training worker killed", longest_silence(events(config)))
