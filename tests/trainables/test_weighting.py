"""Weightings: golden values, limits, and that every weight is in (0, 1]."""

from typing import get_args

import numpy as np
import pytest

from tests.trainables.selectors.pools import P, labelled, of_probs, pool
from trainables.calibrators import Align
from trainables.pool_mean import pool_mean
from trainables.row_maps import Tilt, calibrated
from trainables.selectors.fixed import Everything, Threshold
from trainables.selectors.sketch import sketch
from trainables.weighting import (
    Confidence,
    Dual,
    Gaussian,
    InverseClass,
    Mass,
    Neighbourhood,
    One,
    SelfPaced,
    Separated,
    Weighting,
)

TABLE = of_probs(P)
BLOCK = sketch(TABLE, pool_rows=10, seed=0)
EVERY = (One(), Confidence(), Confidence(power=3), Gaussian(), InverseClass(), SelfPaced())
WHOLE = Everything().fit(BLOCK, labelled(), 0)
every_weighting = pytest.mark.parametrize("weighting", EVERY, ids=str)


def test_every_weighting_has_an_example():
    every = set(get_args(get_args(Weighting)[0]))
    assert {type(w) for w in EVERY} == every - {Mass, Separated, Neighbourhood, Dual}


def test_the_weights_of_softmatch_have_their_golden_values():
    tilt = Align().fit(pool_mean(TABLE).shares(), Tilt(), labelled())
    aligned = calibrated(tilt, TABLE)
    block = sketch(aligned, pool_rows=10, seed=0)
    assert block.confidence_variance() == pytest.approx(0.032918, abs=1e-6)
    weights = Gaussian(num_sigma=2).fit(block, WHOLE)
    expected = [1, 0.467111, 0.107886, 1, 0.967266, 0.004062, 1, 0.276251, 1, 1]
    assert weights.centre == pytest.approx(0.696267, abs=1e-6)
    assert weights.of(aligned.labels, aligned.confidence) == pytest.approx(expected, abs=1e-5)


def test_a_gaussian_of_equal_confidences_is_steep_but_no_step():
    flat = pool(0, 20, levels=1)
    weights = Gaussian().fit(sketch(flat, pool_rows=20, seed=0), WHOLE)
    assert (weights.of(flat.labels, flat.confidence) == 1).all()
    assert weights.of(np.array([0]), flat.confidence[:1] - np.float32(0.01)) < 1e-6
    near = weights.of(np.array([0]), flat.confidence[:1] - np.float32(5e-4))
    assert near == pytest.approx(np.exp(-0.5), abs=1e-3)  # one deviation of 0.001 / 2


def test_confidence_weighs_by_its_power():
    weights = Confidence(power=2).fit(BLOCK, WHOLE)
    assert weights.of(np.array([0]), np.float32([0.5])) == pytest.approx([0.25])


def test_the_rarest_accepted_class_counts_one_and_a_class_without_rows_divides_by_nothing():
    rows = of_probs([[0.9, 0.1, 0.0]] * 8 + [[0.1, 0.9, 0.0]] * 2)
    weights = InverseClass().fit(sketch(rows, pool_rows=10, seed=0), WHOLE)
    assert weights.by_class == (0.25, 1.0, 2.0)
    assert weights.of(np.array([0, 1, 2]), np.ones(3, np.float32)).tolist() == [0.25, 1.0, 1.0]


def test_only_accepted_rows_make_a_class_frequent():
    rule = Threshold(threshold=0.75).fit(BLOCK, labelled(), 0)
    assert np.bincount(TABLE.labels[rule.accepts(TABLE)]).tolist() == [2, 1, 1]
    assert InverseClass().fit(BLOCK, rule).by_class == (0.5, 1.0, 1.0)


@every_weighting
def test_every_weight_is_above_zero_and_at_most_one(weighting):
    weights = weighting.fit(BLOCK, WHOLE)
    found = weights.of(np.array([0, 1, 2] * 4), np.linspace(0, 1, 12, dtype=np.float32))
    assert ((found > 0) & (found <= 1)).all()
    assert found.dtype == np.float32


def test_a_self_paced_row_counts_the_less_the_larger_its_loss_beside_its_class():
    rows = of_probs([[0.9, 0.1]] * 3 + [[0.8, 0.2]] + [[0.7, 0.3]] * 3 + [[0.2, 0.8]])
    weights = SelfPaced(pace=2).fit(sketch(rows, pool_rows=8, seed=0), WHOLE)
    found = weights.of(np.zeros(3, np.int64), np.float32([0.9, 0.8, 0.5]))
    assert found[:2] == pytest.approx([1 - np.log(0.9) / np.log(0.64), 0.5], abs=1e-5)
    assert 0 < found[2] < 1e-6, "a loss above the pace counts for next to nothing"


def test_a_class_of_certain_rows_and_one_without_rows_have_a_pace_too():
    rows = of_probs([[1.0, 0.0, 0.0]] * 4 + [[0.3, 0.7, 0.0]])
    weights = SelfPaced().fit(sketch(rows, pool_rows=5, seed=0), WHOLE)
    found = weights.of(np.array([0, 2]), np.ones(2, np.float32))
    assert found.tolist() == [1, 1]
