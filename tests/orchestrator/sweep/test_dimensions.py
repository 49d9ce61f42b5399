"""Dimensions: which values a range or choices hold, and how they are spread."""

import math

import pytest

from orchestrator.errors import ConfigError
from orchestrator.sweep.dimensions import Choices, Dimension, Range, extremes, parameter_of
from orchestrator.sweep.study import draw
from tests.orchestrator.sweep.helpers import RATE, SELECTED, SHARE, space_of


def test_an_entry_with_choices_is_choices_and_any_other_a_range():
    assert parameter_of({"choices": ["a", "b"]}) == Choices(choices=("a", "b"))
    assert parameter_of({"low": 1, "high": 2}) == Range(low=1, high=2)


def test_the_extremes_are_both_ends_or_every_choice():
    assert extremes(Range(low=0.1, high=0.9)) == [0.1, 0.9]
    assert extremes(Choices(choices=(3, 1, 2))) == [3, 1, 2]


def test_a_range_with_a_step_holds_its_steps_alone():
    (dimension,) = space_of({SELECTED: {"low": 32, "high": 128, "step": 32}}).dimensions
    assert [v for v in range(20, 140) if dimension.contains(v)] == [32, 64, 96, 128]
    tenth = Dimension("x", Range(low=0.1, high=0.7, step=0.1), whole=False)
    assert tenth.contains(0.30000000000000004)
    assert not tenth.contains(0.35)
    assert not tenth.contains(True)


def test_one_minus_log_spreads_one_minus_the_value_over_factors():
    """Of 400 draws between 1 - 0.1 and 1 - 0.0001, each of three decades gets about a third.

    The share of a decade has a standard deviation of 0.024, so 0.1 is four of them.
    """
    path = "recipe.training.teacher.decay"
    teacher = "recipe.training.teacher={kind: ema}"
    space = space_of({path: {"low": 0.9, "high": 0.9999, "scale": "one_minus_log"}}, teacher)
    rest = [1 - chosen[path] for chosen in draw(space, 0, 400)]
    assert min(rest) >= 0.0001 * (1 - 1e-9)
    assert max(rest) <= 0.1 * (1 + 1e-9)
    decades = [sum(10**-k < r <= 10 ** -(k - 1) for r in rest) / 400 for k in (2, 3, 4)]
    assert all(abs(share - 1 / 3) < 0.1 for share in decades)


def test_integer_fields_take_whole_numbers_only():
    space = space_of({SELECTED: {"low": 32, "high": 128}, SHARE: {"low": 0.1, "high": 0.9}})
    assert [d.whole for d in space.dimensions] == [True, False]
    found = [space.config(chosen).recipe.training.batch.selected for chosen in draw(space, 0, 20)]
    assert all(isinstance(rows, int) for rows in found)
    assert len(set(found)) > 10


def test_a_grid_of_tenths_reaches_its_upper_end():
    (dimension,) = space_of({SHARE: {"low": 0.1, "high": 0.7, "step": 0.1}}).dimensions
    assert [round(v, 9) for v in dimension.points()] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert math.isclose(dimension.points()[-1], 0.7)
    assert all(dimension.contains(point) for point in dimension.points())


def test_a_grid_refuses_a_range_without_a_step():
    with pytest.raises(ConfigError, match=f"{RATE}: a grid needs choices or a linear step"):
        list(space_of({RATE: {"low": 0.01, "high": 0.1}}).grid())
