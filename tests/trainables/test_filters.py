"""Filters: what they hold back by hand, and that a row held back counts nowhere."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from tests.trainables.selectors.pools import P, labelled, of_probs, part
from trainables.beliefs import Beliefs, Doubt
from trainables.combining import Mean, combined
from trainables.filters import Agreement, Confidence, Filter, Margin, Spread, filtered
from trainables.pool_mean import pool_mean
from trainables.schedules import Linear, at_round
from trainables.selectors.fixed import Everything
from trainables.selectors.sketch import sketch

EVERY = (
    Agreement(share=0.6),
    Agreement(),
    Spread(),
    Spread(most=0.2),
    Margin(),
    Confidence(),
    Confidence(above=0.3),
)
every_filter = pytest.mark.parametrize("each", EVERY, ids=str)
DOUBT = Doubt(
    np.float32([1, 2 / 3, 0.5, 1 / 3]),
    np.float32([0, 0.05, 0.04, 0.3]),
    np.float32([2, 0, -0.5, 1e-3]),
)


def told(seed: int = 0, num: int = 40, sources: int = 3) -> np.ndarray:
    """Log-probabilities float32 [M, N, C] of sources that mostly agree."""
    stream = np.random.default_rng(seed)
    logits = 2 * stream.normal(size=(num, 4)) + stream.normal(size=(sources, num, 4))
    return (logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)).astype(np.float32)


def doubted(doubt: Doubt) -> Beliefs:
    """Rows of four classes with this doubt, and confidences of 0.4, 0.5, 0.6 and so on."""
    sure = np.minimum(0.4 + 0.1 * np.arange(len(doubt.spread)), 0.9)
    probs = np.stack([sure, *3 * [(1 - sure) / 3]], axis=1)
    beliefs = Beliefs.of_log_probs([str(i) for i in range(len(sure))], np.log(np.float32(probs)))
    return replace(beliefs, doubt=doubt)


def believed(rows: np.ndarray) -> Beliefs:
    return combined(Mean(), [str(i) for i in range(rows.shape[1])], rows)


def test_every_filter_has_an_example():
    assert {type(f) for f in EVERY} == set(get_args(get_args(Filter)[0]))


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (Agreement(), [True, False, False, False]),
        (Agreement(share=2 / 3), [True, True, False, False]),
        (Agreement(share=0.5), [True, True, True, False]),
        (Agreement(share=0), [True, True, True, True]),
        (Spread(), [True, False, True, False]),
        (Spread(most=1), [True, True, True, True]),
        (Spread(most=0), [False, False, False, False]),
        (Margin(), [True, False, False, True]),
        (Confidence(), [False, False, True, True]),
        (Confidence(above=0.65), [False, False, False, True]),
    ],
    ids=str,
)
def test_a_filter_passes_the_rows_that_its_bound_says(each, expected):
    assert each.passes(doubted(DOUBT)).tolist() == expected


@pytest.mark.parametrize("sources", [3, 5, 6, 7])
def test_a_share_of_the_sources_counts_them_whatever_its_rounding(sources):
    agreeing = np.arange(sources + 1)
    zeros = np.zeros(sources + 1, np.float32)
    rows = doubted(Doubt((agreeing / sources).astype(np.float32), zeros, zeros))
    for least in agreeing:
        assert Agreement(share=least / sources).passes(rows).sum() == sources + 1 - least


def test_three_sources_are_filtered_by_hand():
    with np.errstate(divide="ignore"):
        rows = np.log(
            np.float32(
                [
                    [[0.9, 0.1, 0], [0.6, 0.4, 0], [0.8, 0.1, 0.1]],
                    [[0.9, 0.1, 0], [0.6, 0.4, 0], [0.7, 0.2, 0.1]],
                    [[0.9, 0.1, 0], [0.1, 0.9, 0], [0.6, 0.3, 0.1]],
                ]
            )
        )
    found = believed(rows)
    assert found.labels.tolist() == [0, 1, 0]
    assert filtered((Agreement(),), found).eligible.tolist() == [True, False, True]
    assert filtered((Agreement(share=1 / 3),), found).eligible.tolist() == [True, True, True]
    # deviations of the label: 0, that of (0.4, 0.4, 0.9), that of (0.8, 0.7, 0.6)
    assert filtered((Spread(most=0.0817),), found).eligible.tolist() == [True, False, True]
    assert filtered((Spread(most=0.0816),), found).eligible.tolist() == [True, False, False]
    # Welch's t of the third row is about 2.7, its critical value about 2.8
    assert filtered((Margin(),), found).eligible.tolist() == [True, False, False]


@every_filter
def test_rows_are_filtered_on_their_own(each):
    rows, order = told(), np.random.default_rng(1).permutation(40)
    whole = filtered((each,), believed(rows)).eligible
    assert (filtered((each,), believed(rows[:, order])).eligible == whole[order]).all()
    parts = np.array_split(rows, 7, axis=1)
    shards = [filtered((each,), believed(rows)).eligible for rows in parts]
    assert (np.concatenate(shards) == whole).all()


@every_filter
def test_sources_that_are_one_pass_every_filter_that_asks_for_agreement(each):
    rows = np.repeat(told(sources=1), 3, axis=0)
    passed = filtered((each,), believed(rows)).eligible
    sure = rows[0].max(axis=1) > np.log(0.5)
    assert passed[sure].all()


@every_filter
def test_a_row_that_is_no_number_passes_no_filter(each):
    rows = told()
    rows[1, 7] = np.nan
    found = filtered((each,), believed(rows))
    assert not found.eligible[7]
    assert not found.usable()[7]


@every_filter
def test_no_rows_are_filtered_to_no_rows(each):
    found = filtered((each,), believed(told(num=0)))
    assert found.eligible.shape == (0,)
    assert found.eligible.dtype == bool


def test_a_row_must_pass_all_filters():
    rows = believed(told())
    apart = [filtered((each,), rows).eligible for each in EVERY]
    assert (filtered(EVERY, rows).eligible == np.all(apart, axis=0)).all()
    assert 0 < filtered(EVERY, rows).eligible.sum() < 40


def test_without_filters_the_beliefs_are_the_same_object():
    beliefs = of_probs(P)
    assert filtered((), beliefs) is beliefs
    assert beliefs.eligible is None


def test_filters_ask_for_beliefs_of_several_sources():
    with pytest.raises(ValueError, match="give beliefs of several sources"):
        filtered((Agreement(),), of_probs(P))
    assert filtered((Confidence(),), of_probs(P)).eligible.tolist() == [max(p) > 0.5 for p in P]


def test_a_row_held_back_counts_in_no_statistic_and_is_never_accepted():
    kept = [0, 2, 3, 5, 8]
    eligible = np.isin(np.arange(10), kept)
    held = replace(of_probs(P), eligible=eligible)
    few = part(of_probs(P), kept)
    assert held.usable().tolist() == eligible.tolist()
    assert pool_mean(held).shares() == pytest.approx(pool_mean(few).shares(), abs=0)
    one, other = (sketch(b, pool_rows=10, seed=0) for b in (held, few))
    assert (one.class_rows() == other.class_rows()).all()
    rule = Everything().fit(one, labelled(), 0)
    assert rule.accepts(held).tolist() == eligible.tolist()


def test_a_bound_may_move_over_rounds():
    moving = Agreement(share=Linear(start=1.0, end=0.5))
    shares = [at_round(moving, r, 3).share for r in range(3)]
    assert shares == pytest.approx([1.0, 0.75, 0.5])
    assert at_round(moving, 2, 3).passes(doubted(DOUBT)).sum() == 3


@pytest.mark.parametrize("make", [lambda: Agreement(share=1.1), lambda: Spread(most=-0.1)])
def test_a_bound_outside_its_range_is_refused(make):
    with pytest.raises(ValidationError, match="share|most"):
        make()
