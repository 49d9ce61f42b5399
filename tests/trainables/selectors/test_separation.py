"""Golden values of the separation of reliable rows, and what becomes of degenerate samples."""

import warnings

import numpy as np
import pytest

from tests.trainables.selectors.pools import P
from trainables.selectors.separation import Separation, separate

LOGS = np.log(np.array(P))


def draw(seed: int, num: int, classes: int = 4, concentration: float = 0.5) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet([concentration] * classes, num))


def logs_of(*probs: list[float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probs))


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_the_golden_table_is_separated_as_published():
    rule = separate(LOGS)
    assert np.flatnonzero(rule.accepts(LOGS)).tolist() == [0, 1, 3, 5, 6, 8, 9]
    weights = rule.weights(LOGS)
    assert weights[[2, 4, 7]] == pytest.approx([0.002486, 0.703827, 0.021233], abs=1e-6)
    assert weights[[0, 1, 3, 5, 6, 8, 9]].tolist() == [1.0] * 7


@pytest.mark.parametrize(
    ("mode", "refused", "first"),
    [
        ("neglog", [9, 18, 19, 22, 25, 27], [0.953871, 0.509844, 0.0, 0.197368]),
        ("linear", [19, 27], [0.188751, 0.180659]),
    ],
)
def test_random_rows_have_the_values_of_the_reference(mode, refused, first):
    logs = draw(4, 30)
    rule = separate(logs, mode, lam=0.3)
    assert np.flatnonzero(~rule.accepts(logs)).tolist() == refused
    weights = rule.weights(logs, alpha=3.0)[refused]
    assert weights[: len(first)] == pytest.approx(first, abs=1e-6)


def test_a_uniform_row_is_accepted_unless_a_least_confidence_is_asked():
    rule, even = separate(LOGS), logs_of([1 / 3] * 3)
    assert rule.accepts(even).all()
    assert not rule.accepts(even, least_confidence=0.34).any()
    assert rule.accepts(LOGS, least_confidence=0.5).sum() == 6


@pytest.mark.parametrize("mode", ["neglog", "linear"])
def test_the_order_of_the_sample_is_of_no_effect(mode):
    logs, order = draw(1, 200), np.random.default_rng(0).permutation(200)
    assert separate(logs[order], mode) == separate(logs, mode)


def test_rows_are_held_against_the_fit_one_by_one():
    logs, order = draw(2, 150), np.random.default_rng(1).permutation(150)
    rule = separate(logs)
    accepted, weights = rule.accepts(logs), rule.weights(logs)
    assert (rule.accepts(logs[order]) == accepted[order]).all()
    assert (
        np.concatenate([rule.weights(part) for part in np.array_split(logs, 7)]) == weights
    ).all()
    assert (np.concatenate([rule.accepts(logs[i : i + 1]) for i in range(150)]) == accepted).all()


def test_of_two_classes_the_rows_from_the_mean_confidence_on_are_accepted():
    logs = logs_of([0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55])
    rule = separate(logs)
    assert rule.confidence_mean == pytest.approx(np.log([0.9, 0.8, 0.6, 0.55]).mean())
    assert rule.accepts(logs).tolist() == [True, True, False, False]
    assert rule.weights(logs)[2:].max() < 1


@pytest.mark.parametrize("num", [1, 2, 3, 1000])
@pytest.mark.parametrize("row", [[0.6, 0.3, 0.1], [1.0, 0.0, 0.0], [1 / 3] * 3, [0.5, 0.5]])
def test_equal_rows_are_all_accepted(num, row):
    logs = logs_of(*[row] * num)
    rule = separate(logs)
    assert rule.accepts(logs).all()
    assert (rule.weights(logs) == 1).all()


def test_two_rows_are_one_part():
    logs = logs_of([0.9, 0.06, 0.04], [0.4, 0.35, 0.25])
    rule = separate(logs)
    assert (rule.rows, rule.confidence_mean) == (2, pytest.approx(np.log([0.9, 0.4]).mean()))


def test_saturated_rows_are_accepted():
    logs = np.concatenate([logs_of(*[[1.0, 0, 0, 0], [0, 0, 1.0, 0]] * 40), draw(0, 60)])
    rule = separate(logs)
    assert rule.accepts(logs)[:80].all()
    assert np.isfinite(rule.weights(logs)).all()


def test_a_fit_on_no_row_accepts_every_row():
    rule = separate(np.zeros((0, 3)))
    assert rule == Separation()
    assert rule.accepts(LOGS).all()
    assert not rule.accepts(LOGS, least_confidence=0.97).any()
    assert rule.accepts(LOGS[:0]).shape == rule.weights(LOGS[:0]).shape == (0,)


def test_rows_of_nan_are_left_out_and_never_accepted():
    broken = np.concatenate([LOGS, np.full((2, 3), np.nan)])
    rule = separate(broken)
    assert rule == separate(LOGS)
    for known in (rule, Separation()):
        assert not known.accepts(broken)[10:].any()
        assert known.weights(broken)[10:].tolist() == [0.0, 0.0]


def test_float32_rows_whose_confidence_is_rounded_above_one_stay_finite():
    logs = np.float32([[1e-7, -30.0, -40.0], [-0.5, -1.0, -3.0], [-0.2, -2.0, -3.0]])
    weights = separate(logs).weights(logs)
    assert ((weights >= 0) & (weights <= 1)).all()
