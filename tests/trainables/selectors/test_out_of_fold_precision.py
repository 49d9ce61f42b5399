"""Thresholds that reach a precision on labelled rows which were told out of fold."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.selectors.pools import QUICK, of_probs
from trainables.beliefs import Beliefs
from trainables.selectors.adaptive import (
    OutOfFoldPrecision,
)
from trainables.selectors.rules import NEVER, Labelled
from trainables.selectors.sketch import sketch


def judged(rows: Sequence[tuple[int, float, bool]]) -> Labelled:
    """Out-of-fold rows as (predicted class, confidence, whether it is right)."""
    labels = np.array([row[0] for row in rows], np.int64)
    confidence = np.array([row[1] for row in rows], np.float32)
    right = np.array([row[2] for row in rows], bool)
    log_probs = np.log(np.stack([confidence, 1 - confidence], axis=1))
    beliefs = Beliefs([str(i) for i in range(len(rows))], labels, confidence, log_probs)
    return Labelled(np.array([3, 3]), beliefs, np.where(right, labels, 1 - labels))


BY_HAND = judged(
    [
        (0, 0.95, True),
        (0, 0.90, True),
        (0, 0.80, False),
        (0, 0.70, True),
        (0, 0.60, False),
        (1, 0.99, False),
        (1, 0.50, True),
    ]
)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        # class 0 is right in 1, 1, 2/3, 3/4, 3/5 of its rows from the top; class 1 has two rows
        # only and reads all classes' rows: 0, 1/2, 2/3, 2/4, 3/5, 3/6, 4/7
        (0.90, (0.90, NEVER)),
        (0.75, (0.70, NEVER)),
        (0.60, (0.60, 0.70)),
        (0.50, (0.60, 0.50)),
        (0.00, (0.60, 0.50)),
    ],
)
def test_out_of_fold_precision_by_hand(precision, expected):
    selector = OutOfFoldPrecision(precision=precision, least_support=5)
    block = sketch(of_probs([[0.5, 0.5]]), pool_rows=1, seed=0)
    assert selector.fit(block, BY_HAND, 0).least == pytest.approx(expected)


def test_a_class_with_enough_support_reads_its_own_rows():
    block = sketch(of_probs([[0.5, 0.5]]), pool_rows=1, seed=0)
    selector = OutOfFoldPrecision(precision=0.5, least_support=2)
    assert selector.fit(block, BY_HAND, 0).least == pytest.approx((0.60, 0.50))
    selector = OutOfFoldPrecision(precision=0.75, least_support=2)
    assert selector.fit(block, BY_HAND, 0).least == pytest.approx((0.70, NEVER))


@pytest.mark.parametrize("rights", [(True, True, False), (True, False, True), (False, True, True)])
def test_rows_of_equal_confidence_count_together_in_the_precision(rights):
    rows = judged([(0, 0.9, True), *[(0, 0.8, right) for right in rights]])
    block = sketch(of_probs([[0.5, 0.5]]), pool_rows=1, seed=0)
    found = OutOfFoldPrecision(precision=0.8, least_support=1).fit(block, rows, 0)
    assert found.least[0] == pytest.approx(0.9)
    found = OutOfFoldPrecision(precision=0.75, least_support=1).fit(block, rows, 0)
    assert found.least[0] == pytest.approx(0.8)


@QUICK
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([0.5, 0.6, 0.75, 0.9]), st.booleans()),
        min_size=1,
        max_size=25,
    ),
    precision=st.sampled_from([0.5, 0.7, 0.9, 1.0]),
)
def test_accepted_out_of_fold_rows_reach_the_precision_and_no_smaller_cut_does(rows, precision):
    given_rows = judged(rows)
    block = sketch(of_probs([[0.5, 0.5]]), pool_rows=1, seed=0)
    selector = OutOfFoldPrecision(precision=precision, least_support=1)
    least = selector.fit(block, given_rows, 0).least
    for label in range(2):
        mine = [(np.float32(c), right) for k, c, right in rows if k == label]
        if not mine:
            continue
        good = [
            cut
            for cut in {c for c, _ in mine}
            if np.mean([right for c, right in mine if c >= cut]) >= precision
        ]
        assert least[label] == (min(good) if good else NEVER)


def test_no_out_of_fold_row_accepts_nothing():
    nothing = Labelled(np.array([1, 1]), of_probs(np.zeros((0, 2))), np.zeros(0, np.int64))
    block = sketch(of_probs([[1.0, 0.0]]), pool_rows=1, seed=0)
    assert OutOfFoldPrecision().fit(block, nothing, 0).least == (NEVER, NEVER)
