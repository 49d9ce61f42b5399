"""Trials on Ray Tune: the same sweep as in one process; faults of trials end trials, not sweeps."""

import json
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.errors import AllFailedError, InfeasibleError, StorageAwayError
from orchestrator.signals import StopRequest
from orchestrator.sweep.record import SweepRecord
from orchestrator.sweep.session import play_sweep
from orchestrator.tracking.metrics import COMPUTED, FOUND, STARTED, TRIALS, VALIDATION, Readings
from tests.conftest import MakeConfig
from tests.orchestrator.disks import grow, small_disk
from tests.orchestrator.helpers import chaos
from tests.orchestrator.processes import events
from tests.orchestrator.sweep.helpers import RATE, SHARE
from tests.orchestrator.sweep.test_conductor import Stand

pytestmark = pytest.mark.ray
LOCAL, RAY = "placement.engine=local", "placement.engine=ray"
both_engines = pytest.mark.parametrize("engine", [LOCAL, chaos(RAY)], ids=["local", "ray"])
DIVERGES = 10.0
"""A learning rate that makes weights larger in every step, by this decay of weights."""
KEEP = {"rule": "none"}
DECAY = "recipe.training.optimiser.weight_decay=1"


def config_of(make: MakeConfig, space: dict[str, Any], *overrides: str, **sweep: Any) -> RunConfig:
    """A sweep of short runs over this space alone."""
    block = json.dumps({"fragments": [], "space": space, **sweep})
    return make(f"sweep={block}", "placement.threads=1", *overrides)


def play(config: RunConfig) -> SweepRecord:
    record, _ = play_sweep(config, Console(quiet=True), StopRequest())
    return record


@pytest.mark.slow
def test_on_ray_a_sweep_has_the_trials_and_values_that_it_has_in_one_process(
    make_config, ray_cluster, tmp_path
):
    space = {SHARE: {"low": 0.1, "high": 0.9}, RATE: {"low": 0.01, "high": 0.3, "scale": "log"}}
    local = config_of(make_config, space, LOCAL, trials=4)
    apart = f"store={tmp_path}/s2", f"runs={tmp_path}/r2"
    on_ray = config_of(make_config, space, RAY, *apart, trials=4, concurrent=1)
    ours, theirs = play(on_ray), play(local)
    assert ours.sweep == theirs.sweep
    assert len(ours.places) == 4
    timed = {"work_s"}
    assert [p.model_dump(exclude=timed) for p in ours.places] == [
        p.model_dump(exclude=timed) for p in theirs.places
    ]
    assert ours.account.asked == theirs.account.asked
    assert ours.account.computed == theirs.account.computed


@pytest.mark.slow
@both_engines
def test_a_sweep_logs_trials_as_spans_and_its_events_are_metrics(make_config, ray_cluster, engine):
    config = config_of(make_config, {SHARE: {"choices": [0.5, 0.2]}}, engine, sampler="grid")
    record = play(config)
    found = [
        json.loads(line)
        for path in (config.runs / record.sweep / "logs").iterdir()
        for line in path.read_text().splitlines()
    ]
    begun = {line["span"]: line for line in found if line.get("event") == "start"}
    (sweep,) = (span for span, line in begun.items() if line["name"] == "sweep")
    trials = {span: line["trial"] for span, line in begun.items() if line["name"] == "trial"}
    assert set(trials.values()) == {0, 1}
    assert all(begun[span]["parent"] == sweep for span in trials)
    rounds = [line for line in begun.values() if line["name"] == "round"]
    assert len(rounds) == 4
    assert all(trials[line["parent"]] == line["trial"] for line in rounds)
    assert {line["run"] for line in found} == {record.sweep}
    readings = Readings(record.sweep)
    read = [reading for event in events(config) for reading in readings.of(event)]
    ended = [r.tags["state"] for r in read if r.metric is TRIALS]
    assert ended == ["complete", "complete"]
    assert {r.tags["trial"] for r in read if r.metric is VALIDATION} == {"0", "1"}
    steps = [r.metric for r in read if r.metric in (COMPUTED, FOUND)]
    assert len(steps) == sum(r.metric is STARTED for r in read) == record.account.asked
    assert steps.count(COMPUTED) == record.account.computed


@pytest.mark.slow
def test_trials_side_by_side_are_as_many_as_were_asked_for_and_share_their_steps(
    make_config, ray_cluster
):
    space = {SHARE: {"choices": [0.5, 0.2, 0.3, 0.4]}}
    config = config_of(make_config, space, RAY, sampler="grid", concurrent=2, pruning=KEEP)
    record = play(config)
    assert [p.state for p in record.places] == ["complete"] * 4
    told = events(config)
    running, most = 0, 0
    for event in told:
        running += {"trial_started": 1, "trial_ended": -1}.get(event["event"], 0)
        most = max(most, running)
    assert most == 2
    done = [e["address"] for e in told if e["event"] == "trial_step" and not e["from_store"]]
    assert len(done) == len(set(done))


@pytest.mark.slow
@both_engines
def test_a_trial_that_diverges_or_can_not_begin_fails_alone(make_config, ray_cluster, engine):
    space = {
        RATE: {"choices": [0.02, DIVERGES]},
        "data": {"choices": [str(make_config().data), "/nowhere"]},
    }
    steady = DECAY, f"{RATE}=0.02"
    config = config_of(make_config, space, engine, *steady, sampler="grid")
    record = play(config)
    by_number = {p.trial: p for p in record.places}
    assert by_number[0].state == "complete"
    failed = {tuple(p.chosen.values()): p.reason for p in record.places if p.state == "failed"}
    assert len(failed) == 3
    assert "training diverged" in failed[DIVERGES, str(config.data)]
    assert "/nowhere" in failed[0.02, "/nowhere"]
    assert record.status == "finished"


@pytest.mark.slow
@both_engines
def test_a_sweep_of_which_every_trial_fails_says_why_the_first_one_did(
    make_config, ray_cluster, engine
):
    absurd = DECAY, f"{RATE}={DIVERGES}"
    space = {SHARE: {"choices": [0.5, 0.2]}}
    config = config_of(make_config, space, engine, *absurd, trials=2, concurrent=1)
    with pytest.raises(AllFailedError, match="all 2 trials failed; trial 0: .*diverged") as caught:
        play(config)
    assert caught.value.exit_code == 5


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("engine", [LOCAL, RAY], ids=["local", "ray"])
def test_a_full_store_ends_the_sweep_and_fails_no_trial(make_config, ray_cluster, tmp_path, engine):
    with small_disk(tmp_path / "disk", "128k") as disk:
        space = {SHARE: {"choices": [0.5, 0.2]}}
        config = config_of(
            make_config, space, engine, f"store={disk}/store", sampler="grid", concurrent=1
        )
        with pytest.raises(StorageAwayError, match="No space left on device; make room") as ended:
            play(config)
        assert ended.value.exit_code == 75
        assert not [e for e in events(config) if e["event"] == "trial_ended"]
        grow(disk, "64m")
        assert [place.state for place in play(config).places] == ["complete", "complete"]
    assert sorted(e["trial"] for e in events(config) if e["event"] == "trial_ended") == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "sweep", "missing"),
    [
        (("placement.train_workers=50",), {}, "need 50 CPUs, the cluster has 4"),
        ((), {"concurrent": 64}, "64 trials at a time need 64 CPUs, the cluster has 4"),
        (
            ("placement.train_workers=2",),
            {"concurrent": 3},
            "3 trials at a time need 6 CPUs, the cluster has 4",
        ),
        (("placement.cpus_per_worker=5",), {}, "needs 5 CPUs of one node, the largest node has 4"),
    ],
)
def test_what_the_cluster_can_never_give_is_refused_at_once(
    make_config, ray_cluster, overrides, sweep, missing
):
    config = config_of(make_config, {SHARE: {"low": 0.1, "high": 0.9}}, RAY, *overrides, **sweep)
    with pytest.raises(InfeasibleError, match=missing) as caught:
        play(config)
    assert caught.value.exit_code == 3
    assert not list(config.runs.glob("*/study.journal"))


@pytest.mark.chaos
@pytest.mark.slow
def test_a_sweep_out_of_time_stops_after_its_rounds_and_goes_on_with_the_same_trials(
    make_config, ray_cluster
):
    space = {SHARE: {"choices": [0.5, 0.2, 0.3]}}
    settings = {"sampler": "grid", "pruning": KEEP, "concurrent": 1}
    record = play(config_of(make_config, space, RAY, most_s=0.5, **settings))
    assert not record.places
    longer = config_of(make_config, space, RAY, **settings)
    record = play(longer)
    assert [p.trial for p in sorted(record.places, key=lambda p: p.trial)] == [0, 1, 2]
    assert {p.state for p in record.places} == {"complete"}
    begun = [e["trial"] for e in events(longer) if e["event"] == "trial_started"]
    assert begun == [0, 0, 1, 2]


def test_a_sweep_that_hears_nothing_says_which_trial_waits_for_what(
    ray_cluster, monkeypatch, tmp_path
):
    from orchestrator.sweep import tune_trials

    monkeypatch.setattr(tune_trials, "QUIET_S", 0.0)
    stand, said = Stand(tmp_path), list[str]()
    first, second = stand.begin().number, stand.begin().number
    watchdog = tune_trials._Watchdog(stand.conductor, said.append)
    waiting = "step train abc is being worked on by process 7 on host; waiting for it"
    watchdog.hear((str(first), "say", {"text": waiting}))
    watchdog.look()
    assert said[0] == f"trial {first}  {waiting}"
    assert said[1].startswith("no news for 0 s: ")
    assert f"trial {first} last told: {waiting}; trial {second} last told: nothing" in said[1]
    assert "CPUs are free" in said[1]
    stand.conductor.failed(first, "gone")
    watchdog.look()
    assert f"trial {first} " not in said[2]
