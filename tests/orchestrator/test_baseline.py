"""A training on labels alone stands beside rounds that read more from their beginning."""

import pytest

from orchestrator.alarms import alarms
from orchestrator.data.dataset import Dataset
from orchestrator.plan import plan_run
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, computed, play

IN_STEP = (
    "recipe.training.batch.pool=32",
    "recipe.training.objective.consistency={first_round: 0, selector: {kind: everything}}",
    "recipe.policy.num_rounds=1",
    "recipe.policy.label_last=false",
)


def test_a_method_of_one_round_is_held_against_labels_alone(make_config):
    config = make_config(*IN_STEP)
    record = play(config)
    names = list(record.rounds[0].steps)
    assert names == ["train-alone", "score-alone", "train", "score"]
    assert set(record.rounds[0].alone) == {"validation", "test"}
    job = Store(config.store).record("train", record.rounds[0].steps["train-alone"].address)
    assert "pool" not in job.identity["inputs"]
    assert job.counts["pool_rows"] == 0


def test_the_plan_names_the_baseline_and_its_addresses(make_config):
    config = make_config(*IN_STEP)
    planned = [
        (p.round, p.step, p.address)
        for p in plan_run(config, Dataset(config.data), Store(config.store))
    ]
    assert planned == addresses(play(config))


@pytest.mark.slow
def test_methods_that_differ_in_what_they_make_of_the_pool_share_one_baseline(make_config):
    one = play(make_config(*IN_STEP))
    other = play(
        make_config(*IN_STEP[:-3], IN_STEP[1].replace("everything", "threshold"), *IN_STEP[2:])
    )
    assert other.rounds[0].steps["train-alone"].from_store
    assert (0, "train") in computed(other)
    assert other.rounds[0].alone == one.rounds[0].alone


@pytest.mark.slow
def test_rounds_that_begin_with_labels_alone_have_no_second_baseline(make_config):
    record = play(make_config("recipe.policy.num_rounds=1"))
    assert "train-alone" not in record.rounds[0].steps
    assert record.rounds[0].alone == {}


def test_a_baseline_can_be_left_out(make_config):
    record = play(make_config(*IN_STEP, "recipe.policy.baseline=false"))
    assert list(record.rounds[0].steps) == ["train", "score"]


@pytest.mark.parametrize(("reached", "raised"), [(0.79, True), (0.80, False), (0.9, False)])
def test_a_round_below_labels_alone_raises_an_alarm(reached, raised):
    found = alarms(
        0,
        coverage=None,
        class_rows=(),
        labelled_rows=(),
        flip_rate=None,
        validations=[reached],
        alone=0.80,
    )
    assert found == (("validation 0.7900 is below the 0.8000 of labels alone",) if raised else ())
