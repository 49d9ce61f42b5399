"""Why a run is where it is: who holds what it waits for, and which field makes a config differ."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.explaining import explain_plan, explain_run, waits_for
from orchestrator.plan import plan_run
from orchestrator.store.files import Files
from orchestrator.store.lease import Lease, look_at
from orchestrator.store.store import Store
from tests.orchestrator.helpers import play
from tests.orchestrator.processes import end, events, kill, start, wait_until

STEP = {
    "event": "step_started",
    "time": "2026-01-02T03:04:05.000+00:00",
    "round": 1,
    "step": "train",
    "kind": "train",
    "address": "abcdef0123456789",
}
LEASE = "leases/train-abcdef0123456789.json"


def hold(store: Path, **fields) -> None:
    """A lease of a process on another machine, taken an hour ago by the clock of now."""
    content = {"token": "t", "host": "elsewhere", "pid": 7, "beats": 0, **fields}
    Files(store).write(LEASE, json.dumps(content).encode())


@pytest.mark.slow
def test_a_finished_run_waits_for_nothing(make_config):
    config = make_config()
    record = play(config)
    lines = explain_run(config.runs / record.run)
    assert lines == [
        f"{record.run}: finished, 2 of at most 2 rounds",
        "it waits for nothing: all rounds played",
    ]


def test_a_step_that_another_machine_works_on_names_its_process_and_since_when(tmp_path):
    hold(tmp_path, since=1767323045.0)
    (line,) = waits_for(STEP, None, str(tmp_path))
    assert line.startswith("round 1  train (train/abcdef012345): begun ")
    assert "it waits for process 7 on elsewhere, since 2026-01-02T03:04:05+00:00 (" in line


def test_a_lease_of_an_older_version_has_an_unknown_time(tmp_path):
    hold(tmp_path)
    assert "since an unknown time" in waits_for(STEP, None, str(tmp_path))[0]


def test_a_step_that_the_run_itself_works_on_waits_for_nobody(tmp_path):
    with Lease(Files(tmp_path), LEASE, what="step") as lease:
        assert lease.held
        player = look_at(Files(tmp_path), LEASE)
        (line,) = waits_for(STEP, player, str(tmp_path))
    assert "it works on it itself, since " in line
    (line,) = waits_for(STEP, player, str(tmp_path))
    assert "nobody holds its lease now" in line


def test_who_holds_a_lease_is_read_from_its_file(tmp_path):
    files = Files(tmp_path)
    assert look_at(files, LEASE) is None
    with Lease(files, LEASE, what="step"):
        holder = look_at(files, LEASE)
    assert holder is not None
    assert (holder.host, holder.pid, holder.alive) == (socket.gethostname(), os.getpid(), True)
    files.write(LEASE, b"torn")
    assert look_at(files, LEASE) is None


@pytest.mark.slow
def test_a_run_says_who_plays_it_and_that_a_killed_one_is_left(make_config, tmp_path):
    config = make_config("recipe.training.steps.first_round=100000")
    process = start(config, tmp_path)
    try:
        assert wait_until(lambda: any(e["event"] == "progress" for e in events(config)), process)
        os.kill(process.pid, signal.SIGSTOP)
        (folder,) = config.runs.iterdir()
        status, player, step = explain_run(folder)
    finally:
        kill(process)
        end(process)
    assert status == f"{folder.name}: running, in its first round"
    assert player.startswith(f"played by process {process.pid} on {socket.gethostname()}, since ")
    assert step.startswith("round 0  train (train/")
    assert "it works on it itself" in step
    status, player, dead, last = explain_run(folder)
    assert "left before its end" in status
    assert dead == "that process is dead: the same command takes over and goes on"
    assert last.startswith("last told ")


def test_an_interrupted_run_says_why_and_how_it_goes_on(make_config):
    from orchestrator.console import Console
    from orchestrator.errors import Interrupted
    from orchestrator.session import play_run
    from orchestrator.signals import StopRequest

    config, stop = make_config(), StopRequest()
    stop.ask("a test")
    with pytest.raises(Interrupted):
        play_run(config, Console(quiet=True), stop)
    (folder,) = config.runs.iterdir()
    status, goes_on, last = explain_run(folder)
    assert ": interrupted, 0 of at most 2 rounds" in status
    assert goes_on == "nobody plays it: 'selftrain run' with its config goes on"
    assert last.endswith("run interrupted: stopped between rounds after 0 of them")


@pytest.mark.slow
def test_a_plan_names_the_first_step_and_field_in_which_it_differs_from_a_run(make_config):
    config = make_config()
    record = play(config)
    store = Store(config.store)

    def against(*overrides: str) -> list[str]:
        other = make_config(*overrides)
        return explain_plan(record, plan_run(other, Dataset(other.data), store), store)

    assert against("placement.threads=2") == ["all 10 steps of the run are steps of the config"]
    first, field, common = against("recipe.selector.share=0.25")
    assert first.startswith("round 0  select differs: select/")
    assert field == "  reads.selector.share: 0.5 -> 0.25"
    assert common.startswith("3 steps before it are the same")
    first, *fields, common = against("recipe.seed=5")
    assert first.startswith("round 0  train differs: ")
    assert any(line.startswith("  seed: ") for line in fields)
    assert against("recipe.policy.num_rounds=3") == [
        "all 10 steps of the run are steps of the config",
        "the config has 5 further steps",
    ]


def test_steps_of_a_plan_are_printed_without_their_identity(make_config):
    config = make_config()
    for line in plan_run(config, Dataset(config.data), Store(config.store)):
        assert "identity" not in line.plain()
        assert line.identity["kind"] == line.kind
