"""What events say about metrics: the right numbers, few tags, nothing for what is unknown."""

import re
import threading
import time
import urllib.request

import pytest

from orchestrator.tracking import metrics as m
from orchestrator.tracking.metrics import METRICS, Readings
from orchestrator.tracking.ray_metrics_projection import MOST_KEPT, RayMetricsProjection
from orchestrator.tracking.tracker import read_events
from tests.orchestrator.helpers import play

BOUNDED = {"run", "trial", "kind", "state"}


@pytest.fixture
def readings() -> Readings:
    return Readings("a-run")


def values(found: list[m.Reading]) -> dict[str, float]:
    return {reading.metric.name: reading.value for reading in found}


def finished(kind: str = "label", **fields) -> dict:
    return {
        "event": "step_finished",
        "time": "2026-01-02T03:04:05+00:00",
        "kind": kind,
        "from_store": False,
        "work_s": 2.5,
        "counts": {},
        "metrics": {},
    } | fields


def test_names_are_ones_that_prometheus_takes_and_stand_once():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"selftrain_[a-z_]+", metric.name)
        assert not metric.name.endswith("_total")  # which Ray adds to counters
        assert metric.text


def test_tags_are_bounded_no_address_and_no_row():
    assert all(set(metric.tags) <= BOUNDED for metric in METRICS)


def test_every_declared_metric_of_the_module_is_listed():
    declared = {value for value in vars(m).values() if isinstance(value, m.Metric)}
    assert declared == set(METRICS)


def test_a_computed_step_counts_with_its_seconds_speed_and_refused_rows(readings):
    counts, speed = {"refused": 3, "rows": 7}, {"rows_per_s": 50.0}
    found = readings.of(finished(counts=counts, metrics=speed))
    assert values(found) == {
        "selftrain_last_step_timestamp_seconds": 1767323045.0,
        "selftrain_steps_computed": 1,
        "selftrain_step_seconds": 2.5,
        "selftrain_refused_rows": 3,
        "selftrain_label_rows_per_second": 50.0,
    }
    for reading in found:
        assert set(reading.tags) == set(reading.metric.tags)
        assert reading.tags["run"] == "a-run"
        assert reading.tags["trial"] == ""


def test_a_step_from_the_store_counts_as_found_and_has_no_seconds(readings):
    found = values(readings.of(finished(from_store=True, counts={"refused": 3})))
    assert found.keys() == {"selftrain_steps_from_store", "selftrain_last_step_timestamp_seconds"}


def test_waiting_for_another_process_lasts_until_the_step_is_there(readings):
    waits = {"event": "step_waits", "kind": "train", "round": 0}
    assert values(readings.of(waits)) == {"selftrain_lease_waits": 1, "selftrain_waiting": 1}
    assert values(readings.of(finished(from_store=True)))["selftrain_waiting"] == 0
    assert "selftrain_waiting" not in values(readings.of(finished(from_store=True)))


def test_the_best_score_stays_when_a_later_round_falls(readings):
    event = {"event": "round_finished", "kept": True, "alarms": [], "selection": {}}
    first = values(readings.of(event | {"round": 0, "validation": {"score": 0.8}}))
    fallen = event | {"round": 1, "validation": {"score": 0.7}, "kept": False, "alarms": ["a", "b"]}
    second = values(readings.of(fallen | {"selection": {"coverage": 0.25}}))
    assert first["selftrain_best_validation_score"] == first["selftrain_validation_score"] == 0.8
    assert second["selftrain_best_validation_score"] == 0.8
    assert second["selftrain_validation_score"] == 0.7
    assert second["selftrain_accepted_share"] == 0.25
    assert (second["selftrain_alarms"], second["selftrain_rounds_rolled_back"]) == (2, 1)


def test_trials_are_told_apart_by_number_and_counted_by_their_end(readings):
    scored = {"event": "trial_round", "trial": 7, "round": 1}
    (_, score, _) = readings.of(scored | {"seeds": [{"score": 0.5}, {"score": 0.7}]})
    assert (score.tags["trial"], score.value) == ("7", pytest.approx(0.6))
    ended = readings.of({"event": "trial_ended", "trial": 7, "state": "pruned"})
    (count,) = (r for r in ended if r.metric is m.TRIALS)
    assert count.tags == {"run": "a-run", "state": "pruned"}


def test_no_trial_counts_as_running_once_its_sweep_is_closed(readings):
    for event in ({"event": "sweep_started"}, {"event": "trial_started", "trial": 3}):
        readings.of(event)
    ended = readings.of({"event": "sweep_closed"})
    over = {r.tags["trial"] for r in ended if r.metric is m.RUNNING and r.value == 0}
    assert over == {"", "3"}


def test_unknown_events_say_nothing(readings):
    assert readings.of({"event": "something_new"}) == []


@pytest.mark.slow
def test_counters_rise_by_more_than_nothing_over_a_whole_run(make_config, readings):
    config = make_config()
    record = play(config)
    found = [r for event in read_events(config.runs / record.run) for r in readings.of(event)]
    assert all(r.value > 0 for r in found if r.metric.sort == "counter")  # Ray refuses others
    computed = [r.tags["kind"] for r in found if r.metric is m.COMPUTED]
    assert sorted(computed) == sorted(2 * ["train", "score", "label", "select", "audit"])
    assert {r.metric for r in found} >= {m.IMAGES_PER_S, m.ROWS_PER_S, m.ACCEPTED, m.RUNNING}
    assert [r.value for r in found if r.metric is m.RUNNING] == [1, 0]


def test_without_ray_readings_are_kept_up_to_a_bound_and_nothing_is_started():
    projection = RayMetricsProjection("a-run")
    for _ in range(MOST_KEPT + 5):
        projection.hear({"event": "step_started", "kind": "train"})
    projection.close()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_exports_what_was_heard_before_and_after_it_was_up():
    import ray

    up: list[bool] = []
    projection = RayMetricsProjection("exported-run", lambda: bool(up))
    projection.hear({"event": "run_started"})
    up.append(True)
    projection.hear({"event": "step_started", "kind": "train"})
    projection.hear(finished("train", metrics={"images_per_s": 12.5}))
    (node,) = ray.nodes()
    page = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    text = ""
    while "ray_selftrain_train_images_per_second" not in text:
        assert time.monotonic() < deadline, text[-2000:]
        try:
            with direct.open(page, timeout=10) as answer:
                text = answer.read().decode()
        except OSError as error:  # Ray's agent opens the port some seconds after the node is up
            text = f"{page}: {error}"
        threading.Event().wait(0.2)  # how often the page is looked at
    ours = [line for line in text.splitlines() if 'run="exported-run"' in line]
    found = {re.split(r"[{ ]", line)[0]: line for line in ours}
    assert found["ray_selftrain_steps_started_total"].endswith(" 1.0")
    assert found["ray_selftrain_running"].endswith(" 1.0")
    assert 'kind="train"' in found["ray_selftrain_steps_computed_total"]
    assert "ray_selftrain_step_seconds_bucket" in found
