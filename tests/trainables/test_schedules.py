import math
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trainables.schedules import (
    SCHEDULES,
    Bounds,
    Cosine,
    Geometric,
    Linear,
    Moment,
    Scalar,
    SigmoidRamp,
    Stepwise,
    at_round,
    at_step,
    number,
    schedules_over_steps,
)
from trainables.spec import Spec

QUICK = settings(deadline=None, derandomize=True, max_examples=60)


class Inner(Spec):
    share: Annotated[Scalar, Bounds(low=0, high=1)] = 0.5
    weight: Annotated[Scalar, Bounds(low=0, over=("rounds", "steps"))] = 1.0


class Outer(Spec):
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    name: str = "outer"


EXAMPLES = (
    Linear(start=0.2, end=0.8),
    Linear(start=0.9, end=0.1, until=0.25),
    Linear(start=0.0, end=1.0, until=0.0),
    Cosine(start=1.0, end=0.0),
    SigmoidRamp(end=0.7),
    SigmoidRamp(end=1.0, until=0.5),
    SigmoidRamp(start=0.1, end=1.0),
    Geometric(start=0.8, ratio=0.5, least=0.1),
    Stepwise(values=(0.2, 0.4, 1.0)),
)
MOVING = tuple(s for s in EXAMPLES if not isinstance(s, Stepwise | Geometric))


def test_every_schedule_has_an_example():
    assert {type(s) for s in EXAMPLES} == set(SCHEDULES.values())


@pytest.mark.parametrize(
    ("t", "expected"), [(0, 0.006738), (0.25, 0.060055), (0.5, 0.286505), (1, 1)]
)
def test_the_sigmoid_ramp_has_its_golden_values(t, expected):
    assert SigmoidRamp(end=1).value(t) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("t", "expected"), [(0, 0.106064), (0.5, 0.357854), (1, 1)])
def test_the_share_of_p2ot_rises_from_its_base_with_its_golden_values(t, expected):
    assert SigmoidRamp(start=0.1, end=1).value(t) == pytest.approx(expected, abs=1e-6)


def test_a_sigmoid_ramp_falls_back_to_its_start():
    ramp = SigmoidRamp(start=0.2, end=1, until=0.4, down_from=0.6)
    assert ramp.value(0.8) == pytest.approx(0.2 + 0.8 * 0.043937, abs=1e-6)
    assert ramp.value(1) == pytest.approx(0.2, abs=1e-5)


def test_a_ramp_from_zero_has_the_plain_form_of_one_without_a_start():
    plain = {"over": "rounds", "schedule": "sigmoid_ramp", "end": 0.7, "until": 1.0}
    assert SigmoidRamp(end=0.7).plain() == plain | {"down_from": None}
    assert Inner(share=SigmoidRamp(end=0.7)).plain()["share"] == SigmoidRamp(end=0.7).plain()
    assert SigmoidRamp(start=0.1, end=0.7).plain() == plain | {"down_from": None, "start": 0.1}


@pytest.mark.parametrize(
    ("t", "expected"), [(0.4, 1), (0.6, 1), (0.8, 0.043937), (0.9, 0.000884), (1, 0.0000037)]
)
def test_the_sigmoid_ramp_falls_again_where_asked(t, expected):
    ramp = SigmoidRamp(end=1, until=0.4, down_from=0.6)
    assert ramp.value(t) == pytest.approx(expected, abs=1e-6)


def test_the_sigmoid_ramp_holds_its_end_after_until():
    ramp = SigmoidRamp(end=3, until=0.5)
    assert ramp.value(0.25) == pytest.approx(3 * 0.286505, abs=1e-5)
    assert ramp.value(0.5) == ramp.value(0.75) == ramp.value(1) == 3


def test_a_line_is_halfway_in_the_middle_and_holds_its_end():
    assert Linear(start=2, end=4).value(0.5) == 3
    assert Linear(start=2, end=4, until=0.5).value(0.25) == 3
    assert Linear(start=2, end=4, until=0.5).value(0.9) == 4


def test_a_cosine_is_halfway_in_the_middle_and_flat_at_its_ends():
    cosine = Cosine(start=1, end=0)
    assert cosine.value(0.5) == pytest.approx(0.5)
    assert cosine.value(1 / 3) == pytest.approx(0.75)
    assert 1 - cosine.value(0.01) < 0.001 > cosine.value(0.99)


def test_a_geometric_schedule_multiplies_round_by_round_and_stops_at_its_least():
    rounds = [at_round(Inner(share=EXAMPLES[-2]), r, 9).share for r in range(5)]
    assert rounds == pytest.approx([0.8, 0.4, 0.2, 0.1, 0.1])


def test_the_bound_of_dash_has_its_golden_values():
    falling = Geometric(start=1.0001, ratio=1 / 1.27)
    values = [2 * at_round(Inner(weight=falling), r, 9).weight for r in range(4)]
    assert values == pytest.approx([2.0002, 1.574961, 1.240126, 0.976478], abs=1e-6)


@QUICK
@given(schedule=st.sampled_from(MOVING), share=st.floats(0, 1))
def test_a_schedule_stays_between_its_extremes(schedule, share):
    low, high = min(schedule.extremes()), max(schedule.extremes())
    assert low - 1e-12 <= schedule.value(share) <= high + 1e-12


@QUICK
@given(schedule=st.sampled_from(MOVING), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_schedule_never_turns_back(schedule, shares):
    first, later = (schedule.value(s) for s in sorted(shares))
    start, end = schedule.value(0), schedule.value(1)
    assert (later - first) * (end - start) >= -1e-12


@pytest.mark.parametrize("schedule", MOVING)
def test_a_schedule_reaches_its_end(schedule):
    assert schedule.value(1) == pytest.approx(schedule.end)


@pytest.mark.parametrize("schedule", EXAMPLES)
def test_a_schedule_survives_its_plain_form(schedule):
    knob = Inner(share=schedule)
    assert Inner.model_validate(knob.plain()) == knob
    assert type(Inner.model_validate(knob.plain()).share) is type(schedule)


@pytest.mark.parametrize("schedule", EXAMPLES)
@pytest.mark.parametrize("round_", range(4))
def test_at_round_leaves_plain_numbers_at_every_depth(schedule, round_):
    knob = Inner(share=schedule)
    found = at_round(Outer(inner=knob, many=(knob, Inner())), round_, 3)
    values = [found.inner.share, *(item.share for item in found.many)]
    assert all(isinstance(v, float) and 0 <= v <= 1 for v in values)
    assert values[0] == values[1]
    assert values[2] == 0.5
    assert found.name == "outer"


def test_at_round_reads_the_first_the_middle_and_the_last_round():
    spec = Inner(share=Linear(start=0.2, end=0.8))
    assert [at_round(spec, r, 3).share for r in range(3)] == pytest.approx([0.2, 0.5, 0.8])


def test_at_round_holds_the_last_value_beyond_the_planned_rounds():
    assert at_round(Inner(share=Linear(start=0, end=1)), 9, 3).share == 1
    assert at_round(Inner(share=Stepwise(values=(0.1, 0.3))), 9, 3).share == 0.3


def test_at_round_of_a_single_round_is_the_start():
    assert at_round(Inner(share=Linear(start=0.2, end=0.8)), 0, 1).share == 0.2


def test_at_round_leaves_schedules_over_steps_and_their_settings_alone():
    spec = Outer(inner=Inner(weight=Linear(start=0, end=1, over="steps")))
    assert at_round(spec, 1, 3) is spec


def test_at_step_runs_from_the_first_to_the_last_step():
    line = Linear(start=0, end=10, over="steps")
    assert [at_step(line, s, 6) for s in range(6)] == pytest.approx([0, 2, 4, 6, 8, 10])
    assert at_step(line, 0, 1) == 0
    assert at_step(0.3, 2, 6) == 0.3


def test_a_moment_knows_its_share_of_the_round_and_what_a_scalar_is_then():
    assert [Moment(s, 5).share for s in range(5)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert Moment(0, 1).share == 0
    line = Linear(start=2, end=4, over="steps")
    assert [Moment(s, 3).value(line) for s in range(3)] == pytest.approx([2, 3, 4])
    assert Moment(1, 3).value(0.5) == 0.5


def test_a_moment_reads_schedules_over_steps_at_every_depth_and_leaves_those_over_rounds():
    over_rounds, over_steps = Linear(start=0, end=1), Linear(start=0, end=4, over="steps")
    knob = Inner(share=over_rounds, weight=over_steps)
    found = Moment(1, 3).settings(Outer(inner=knob, many=(Inner(), knob)))
    assert found.inner.weight == found.many[1].weight == pytest.approx(2)
    assert found.inner.share == found.many[1].share == over_rounds
    still = Outer(inner=Inner(share=over_rounds))
    assert Moment(1, 3).settings(still) is still


def test_schedules_over_steps_are_found_by_their_paths():
    over_rounds, over_steps = Linear(start=0, end=1), Linear(start=0, end=4, over="steps")
    knob = Inner(share=over_rounds, weight=over_steps)
    tree = Outer(inner=knob, many=(Inner(), knob))
    assert schedules_over_steps(tree, "recipe") == ["recipe.inner.weight", "recipe.many.1.weight"]
    assert schedules_over_steps(at_round(tree, 0, 3), "recipe") == [
        "recipe.inner.weight",
        "recipe.many.1.weight",
    ]
    assert schedules_over_steps(Moment(0, 3).settings(tree), "recipe") == []


@pytest.mark.parametrize("schedule", EXAMPLES)
def test_an_unresolved_schedule_over_rounds_is_refused(schedule):
    with pytest.raises(ValueError, match="at_round first"):
        at_step(schedule, 0, 10)
    with pytest.raises(ValueError, match="at_round first"):
        number(schedule)


def test_a_number_is_itself():
    assert number(0.25) == 0.25
    assert number(3) == 3.0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.5, "less than or equal to 1"),
        (-0.1, "greater than or equal to 0"),
        (math.nan, "finite"),
        (math.inf, "finite"),
        ("much", "number"),
        (Linear(start=0, end=1.5), r"reaches 1\.5, above the bound 1"),
        (Stepwise(values=(0.1, -0.2)), r"reaches -0\.2, below the bound 0"),
        (Linear(start=0, end=1, over="steps"), "may move over rounds only"),
        ({"schedule": "linaer", "start": 0, "end": 1}, "'linear', 'cosine'"),
        ({"schedule": "linear", "start": 0, "end": 1, "speed": 2}, "Extra inputs"),
        ({"schedule": "stepwise", "values": []}, "at least 1"),
        ({"schedule": "linear", "start": 0, "end": 1, "until": 2}, "less than or equal to 1"),
    ],
)
def test_a_value_outside_its_bounds_is_refused_with_the_reason(value, words):
    with pytest.raises(ValidationError, match=words):
        Inner(share=value)


def test_a_field_may_take_schedules_over_steps():
    line = Linear(start=0, end=5, over="steps")
    assert Inner(weight=line).weight == line


def test_a_plain_mapping_becomes_a_schedule():
    found = Inner.model_validate({"share": {"schedule": "cosine", "start": 1, "end": 0}})
    assert found.share == Cosine(start=1, end=0)
