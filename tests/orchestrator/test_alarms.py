"""Alarms: each is raised at its bound and not before."""

from typing import Any

from orchestrator.alarms import alarms

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
