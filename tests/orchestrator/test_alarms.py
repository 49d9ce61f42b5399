"""Alarms: each is raised at its bound and not before."""

from typing import Any

import pytest

from orchestrator.alarms import alarms
from trainables.step_tally import InStep

QUIET: dict[str, Any] = {
    "coverage": 0.5,
    "class_rows": (50, 50),
    "labelled_rows": (10, 10),
    "flip_rate": 0.1,
    "validations": [0.7, 0.8],
}


def raised(round_: int = 5, **changes: Any) -> tuple[str, ...]:
    return alarms(round_, **{**QUIET, **changes})


def test_a_run_that_goes_well_raises_none():
    assert raised() == ()


def test_a_selection_of_next_to_nothing_is_told():
    assert raised(coverage=0.0009) == ("only 0.09% of the pool was accepted",)
    assert raised(coverage=0.001) == ()
    assert raised(coverage=None) == ()


def test_a_class_that_swallows_the_selection_is_told():
    rows, known = (91, 3, 3, 3), (3, 3, 3, 3)
    (told,) = raised(class_rows=rows, labelled_rows=known)
    assert told == (
        "class 0 holds 91.0% of the selection, more than 3 times its 25.0% of the labelled rows"
    )
    assert raised(class_rows=(75, 25, 0, 0), labelled_rows=known) == ()


def test_a_class_without_labels_that_swallows_the_selection_is_told():
    rows, known = (0, 60, 20, 20), (10, 0, 10, 10)
    assert raised(class_rows=rows, labelled_rows=known) == (
        "class 1 holds 60.0% of the selection, more than its none of the labelled rows",
    )
    assert raised(class_rows=(40, 5, 30, 25), labelled_rows=known) == ()  # three of 33, as a label


@pytest.mark.parametrize("known", [(10, 10), (10, 10, 10)])
def test_with_few_classes_one_that_holds_nearly_all_is_told(known):
    few = [0] * (len(known) - 1)
    (told,) = raised(class_rows=(1000, *few), labelled_rows=known)
    assert told.startswith("class 0 holds 100.0% of the selection, nearly all, and ")
    assert raised(class_rows=(985, 15, *few[1:]), labelled_rows=known) == ()
    assert raised(class_rows=(995, 5), labelled_rows=(995, 5)) == ()


def test_a_pool_that_keeps_changing_its_mind_is_told_from_round_3_on():
    assert raised(3, flip_rate=0.31) == (
        "31% of the pool changed its predicted class since last round",
    )
    assert raised(2, flip_rate=0.31) == ()
    assert raised(3, flip_rate=0.3) == ()


def test_validation_that_falls_twice_in_a_row_is_told():
    assert raised(validations=[0.6, 0.9, 0.8, 0.7]) == (
        "validation has fallen for 2 rounds: 0.9000, 0.8000, 0.7000",
    )
    assert raised(validations=[0.6, 0.9, 0.8, 0.8]) == ()
    assert raised(validations=[0.7, 0.9, 0.8]) == ()


def test_a_round_that_stays_below_labels_alone_is_told():
    assert raised(validations=[0.8, 0.82, 0.79]) == (
        "validation 0.7900 is below the 0.8000 of round 0: labels alone were better",
    )
    assert raised(validations=[0.8, 0.7955]) == ()
    assert raised(validations=[0.8]) == ()
    assert raised(validations=[]) == ()


def test_a_selector_that_holds_nothing_back_is_told_unless_it_means_to():
    assert raised(coverage=0.995, accepts_all=False) == (
        "99.50% of the pool was accepted: the selector holds next to nothing back",
    )
    assert raised(coverage=0.99, accepts_all=False) == ()
    assert raised(coverage=1.0, accepts_all=True) == ()


STEPS = InStep(
    rows=1000,
    accepted_share=0.5,
    class_rows=(125, 125, 125, 125),
    mean_confidence=0.7,
    entropy_of_mean=1.3,
    not_finite=0,
    accepts_all=False,
)
KNOWN = (3, 3, 3, 3)


def raised_by_steps(**changes: Any) -> tuple[str, ...]:
    rows = STEPS.model_copy(update=changes)
    return raised(coverage=None, class_rows=(), labelled_rows=KNOWN, in_step=rows)


def test_training_steps_that_accept_sound_rows_raise_none():
    assert raised_by_steps() == ()


def test_training_steps_that_accept_next_to_nothing_or_everything_are_told():
    (low,) = raised_by_steps(accepted_share=0.0005, class_rows=(0, 0, 0, 0))
    assert low == "only 0.05% of the pool rows of the last training steps were accepted"
    (high,) = raised_by_steps(accepted_share=0.999)
    assert high.startswith("99.90% of the pool rows of the last training steps were accepted")
    assert raised_by_steps(accepted_share=0.999, accepts_all=True) == ()


def test_a_class_that_swallows_the_rows_of_training_steps_is_told():
    (told,) = raised_by_steps(class_rows=(480, 10, 5, 5))
    assert told.startswith("class 0 holds 96.0% of what the last training steps accepted")


def test_a_class_that_training_steps_leave_without_a_row_is_told_where_some_were_due():
    (told,) = raised_by_steps(class_rows=(200, 150, 150, 0))
    assert told == (
        "none of the 500 rows that the last training steps accepted is of class 3, "
        "which hold 25.0% of the labelled rows"
    )
    assert raised_by_steps(class_rows=(30, 25, 24, 0)) == ()  # 19.75 were due
    many = STEPS.model_copy(update={"class_rows": (30,) * 30 + (0,) * 8})
    (told,) = raised(coverage=None, class_rows=(), labelled_rows=(1,) * 38, in_step=many)
    assert "is of class 30, 31, 32, 33, 34 and 3 more" in told


def test_beliefs_that_are_not_finite_are_told():
    assert raised_by_steps(not_finite=1200) == (
        "beliefs about 1,200 pool rows of training steps were not finite",
    )
