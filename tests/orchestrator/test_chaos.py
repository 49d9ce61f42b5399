"""Interrupted = uninterrupted: real processes, killed with SIGKILL, started again.

The killer follows the event log, which is written to disk before a step goes on.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from orchestrator.config import RunConfig
from orchestrator.runs import RunRecord, load_run
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, computed, play

pytestmark = pytest.mark.slow
PATIENCE_S = 120


def start(config: RunConfig, folder: Path, *arguments: str) -> subprocess.Popen:
    """`selftrain run` on a config, in a process of its own."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.plain()))
    command = [sys.executable, "-m", "orchestrator", "run", str(path), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )


def events(config: RunConfig) -> list[dict]:
    """The events of the only run, as far as they are whole."""
    found = []
    for path in config.runs.glob("*/events.jsonl"):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def wait_until(true: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Whether it came true before the process ended by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if true():
            return True
        if process.poll() is not None:
            return true()
        time.sleep(0.005)  # how often the log is looked at; nothing waits for a fixed time
    raise AssertionError("nothing happened for two minutes")


def end(process: subprocess.Popen) -> str:
    """Wait for the process; what it printed."""
    text, _ = process.communicate(timeout=PATIENCE_S)
    return text


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
    second = start(config, tmp_path)
    outputs = [end(first), end(second)]
    assert first.returncode == second.returncode == 0
    assert f"process {first.pid}" in outputs[1]
    assert "waiting for it" in outputs[1]
    done = [
        e["address"]
        for e in events(config)
        if e["event"] == "step_finished" and not e["from_store"]
    ]
    assert len(done) == len(set(done))
    same_outcome(config, whole)


def ray_process(parent: int, name: str) -> psutil.Process | None:
    """A process below ``parent`` whose title holds the name."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(parent).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if name in " ".join(child.cmdline()):
                    return child
    return None


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
