"""Population-based training: who is followed, and what a follower plays."""

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.sweep.population import follow, leader_of
from orchestrator.sweep.spec import Population
from tests.orchestrator.sweep.helpers import RATE, SHARE, TWO, space_of
from tests.orchestrator.sweep.test_conductor import Stand

DECAY = "recipe.training.teacher.decay"
POPULATION = Population(quantile=0.25, factor=1.25)
ROUND_1 = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6, 4: 0.5, 5: 0.4, 6: 0.3, 7: 0.2}


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_trial_of_the_lowest_quarter_follows_one_of_the_highest():
    leaders = {leader_of(POPULATION, 7, ROUND_1, draw(seed)) for seed in range(20)}
    assert leaders == {0, 1}
    assert leader_of(POPULATION, 6, ROUND_1, draw()) in (0, 1)


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_a_trial_above_the_lowest_quarter_goes_on(number):
    assert leader_of(POPULATION, number, ROUND_1, draw()) is None


def test_nobody_follows_where_all_are_equal_or_too_few():
    assert leader_of(POPULATION, 3, dict.fromkeys(range(8), 0.5), draw()) is None
    assert leader_of(POPULATION, 2, {0: 0.9, 1: 0.8, 2: 0.1}, draw()) is None


def test_a_follower_holds_its_leaders_values_up_to_the_round_and_perturbed_ones_after():
    space = space_of(TWO | {DECAY: {"low": 0.9, "high": 0.99}})
    found = follow(POPULATION, space, 3, {SHARE: 0.4, RATE: 0.1, DECAY: 0.95}, 1, draw())
    values = found.course[SHARE]["values"]
    assert values[:2] == [0.4, 0.4]
    assert values[2] in (0.5, 0.32)
    rate = found.course[RATE]["values"][2]
    assert rate in (0.125, 0.08)
    assert found.chosen == {SHARE: values[2], RATE: rate, DECAY: 0.95}, "a decay takes no schedule"
    assert set(found.course) == {SHARE, RATE}


def test_a_course_that_is_followed_again_grows_by_the_round():
    space = space_of(TWO)
    first = follow(POPULATION, space, 3, {SHARE: 0.4, RATE: 0.1}, 1, draw())
    second = follow(POPULATION, space, 5, {**first.chosen, **first.course}, 3, draw(1))
    values = second.course[SHARE]["values"]
    assert values[:4] == [0.4, 0.4, first.chosen[SHARE], first.chosen[SHARE]]
    assert len(values) == 5
    assert values[4] != values[3]


@pytest.mark.parametrize("seed", range(8))
def test_perturbed_values_stay_within_the_range(seed):
    found = follow(POPULATION, space_of(TWO), 0, {SHARE: 0.88, RATE: 0.1}, 0, draw(seed))
    assert 0.1 <= found.chosen[SHARE] <= 0.9


def test_a_lagging_trial_ends_and_its_follower_shares_the_leaders_first_rounds(tmp_path):
    stand = Stand(tmp_path, trials=6, population={"quantile": 0.2})
    for level in (0.5, 0.6, 0.7, 0.8, 0.9):
        stand.play(level, level, level, level, level)
    lagging = stand.play(0.3, 0.3, 0.3, 0.3, 0.3)
    assert stand.trial(lagging).state == "pruned"
    reason = stand.trial(lagging).notes["reason"]
    assert reason == "lags behind after round 1: a follower of trial 4 goes on"
    task = stand.begin()
    assert task.number == lagging + 1
    follower = stand.trial(task.number)
    assert follower.origin == "follower"
    assert follower.notes["leader"] == 4
    values = follower.chosen[SHARE]["values"]
    assert values[:2] == [stand.trial(4).chosen[SHARE]] * 2
    assert share_in(task.configs[0]) == values
    stand.play(0.9, 0.9, 0.95, 0.95, 0.95, number=task.number)
    assert stand.trial(task.number).state == "complete"
    assert stand.conductor.propose() is None, "a follower is not counted as a further trial"


def test_a_follower_is_not_judged_on_its_leaders_rounds(tmp_path):
    stand = Stand(tmp_path, trials=6, population={"quantile": 0.2})
    for level in (0.5, 0.6, 0.7, 0.8, 0.9):
        stand.play(level, level, level, level, level)
    stand.play(0.3, 0.3, 0.3, 0.3, 0.3)
    follower = stand.begin().number
    stand.play(0.1, 0.1, number=follower)
    assert stand.trial(follower).state == "running"


def share_in(config: RunConfig) -> list[float]:
    """The values of the selector's share by round."""
    return config.recipe.plain()["selector"]["share"]["values"]
