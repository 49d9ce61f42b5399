"""The plan of a run says, without doing anything, what a run then does."""

import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.plan import PlannedStep, plan_run
from orchestrator.runs import RunRecord
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, play


def plan(config) -> list[PlannedStep]:
    return plan_run(config, Dataset(config.data), Store(config.store))


def named(lines: list[PlannedStep]) -> list[tuple[int, str, str]]:
    return [(line.round, line.step, line.address) for line in lines]


def same_steps(lines: list[PlannedStep], record: RunRecord) -> bool:
    return sorted(named(lines)) == sorted(addresses(record))


def test_a_plan_of_an_empty_store_computes_nothing(make_config):
    config = make_config()
    lines = plan(config)
    assert [line.step for line in lines] == ["train", "score", "label", "select", "audit"] * 2
    assert not any(line.in_store for line in lines)
    assert list(Store(config.store).steps()) == []


def test_a_plan_bounds_what_is_not_known_yet(make_config):
    lines = {(line.round, line.step): line for line in plan(make_config())}
    assert lines[0, "train"].most_steps == 30
    assert lines[0, "train"].work == "train 30 steps"
    assert lines[1, "train"].work == "train at most 20 steps"
    assert lines[0, "label"].rows == 1047


def test_without_a_last_labelling_the_plan_ends_with_a_score(make_config):
    assert plan(make_config("recipe.policy.label_last=false"))[-1].step == "score"


@pytest.mark.slow
def test_a_run_does_exactly_the_steps_of_its_plan_and_the_plan_finds_them(make_config):
    config = make_config("recipe.labelling.out_of_fold=2", "recipe.policy.start=warm")
    before = plan(config)
    record = play(config)
    after = plan(config)
    assert same_steps(before, record)
    assert named(after) == named(before)
    assert all(line.in_store for line in after)


@pytest.mark.slow
def test_a_plan_knows_that_an_empty_selection_is_not_trained_on(make_config):
    config = make_config(
        "recipe.selector={kind: threshold, threshold: 1.0}",
        "recipe.training.batch={pool: 8}",
        "recipe.training.objective.consistency={weight: 1}",
        "recipe.training.steps={first_round: 2, base: 2}",
    )
    record = play(config)
    assert record.rounds[0].accepted == 0
    assert same_steps(plan(config), record)
