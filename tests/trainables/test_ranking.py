"""What selectors order rows by."""

import numpy as np
import pytest

from tests.trainables.selectors.pools import P, of_probs
from trainables.beliefs import Beliefs, Doubt
from trainables.ranking import ranked
from trainables.selectors.fixed import TopShare
from trainables.selectors.rules import Labelled
from trainables.selectors.sketch import sketch


def told(agreement: list[float], confidence: list[float]) -> Beliefs:
    """Rows of two classes with these shares of agreeing sources."""
    sure = np.array(confidence, np.float32)
    logs = np.log(np.stack([sure, 1 - sure], axis=1) + 1e-9).astype(np.float32)
    ids = [f"row-{i}" for i in range(len(sure))]
    flat = np.zeros(len(sure), np.float32)
    doubt = Doubt(np.array(agreement, np.float32), flat, flat)
    return Beliefs(ids, np.zeros(len(sure), np.int64), sure, logs, doubt)


def test_agreement_comes_first_and_probability_orders_equal_ones():
    rows = told([1 / 3, 1, 2 / 3, 1], [0.99, 0.6, 0.9, 0.8])
    found = ranked("agreement", rows)
    assert np.argsort(-found.confidence).tolist() == [3, 1, 2, 0]
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()
    assert np.array_equal(found.log_probs, rows.log_probs)
    assert ranked("confidence", rows) is rows


def test_margin_and_entropy_have_their_golden_values():
    rows = of_probs(P)
    ordered = np.sort(P, axis=1)
    margin = ranked("margin", rows)
    assert margin.confidence == pytest.approx(ordered[:, -1] - ordered[:, -2], abs=1e-6)
    golden = [0.642837, 0.270153, 0.230745, 0.528327, 0.182655]
    golden += [0.000091, 0.442142, 0.136462, 0.270153, 0.821893]
    assert ranked("entropy", rows).confidence == pytest.approx(golden, abs=1e-6)
    for found in (margin, ranked("entropy", rows)):
        assert found.labels.tolist() == rows.labels.tolist()
        assert np.array_equal(found.log_probs, rows.log_probs)


@pytest.mark.parametrize("by", ["margin", "entropy"])
def test_certain_and_uniform_rows_are_the_ends(by):
    found = ranked(by, of_probs([[1.0, 0.0, 0.0], [1 / 3] * 3, [0.5, 0.5, 0.0]]))
    assert found.confidence[:2] == pytest.approx([1, 0], abs=1e-6)
    assert found.confidence[2] == pytest.approx(0 if by == "margin" else 1 - np.log(2) / np.log(3))


def test_what_orders_rows_decides_which_are_selected():
    rows = of_probs([[0.5, 0.49, 0.01], [0.48, 0.26, 0.26], [0.34, 0.33, 0.33]])
    best = {}
    for by in ("confidence", "margin"):
        found = ranked(by, rows)
        pool = sketch(found, pool_rows=3, seed=0)
        rule = TopShare(share=0.33).fit(pool, Labelled(np.ones(3, np.int64)), 0)
        best[by] = np.flatnonzero(rule.accepts(found)).tolist()
    assert best == {"confidence": [0], "margin": [1]}


def test_a_hundred_sources_never_change_places_by_probability():
    found = ranked("agreement", told([0.99, 1.0], [1.0, 0.01])).confidence
    assert found[1] >= found[0]


def test_the_most_reliable_half_is_selected():
    rows = told([1 / 3, 1, 2 / 3, 1], [0.99, 0.6, 0.9, 0.8])
    found = ranked("agreement", rows)
    pool = sketch(found, pool_rows=4, seed=0)
    rule = TopShare(share=0.5).fit(pool, Labelled(np.ones(2, np.int64)), 0)
    assert rule.accepts(found).tolist() == [False, True, False, True]


def test_rows_that_are_not_numbers_are_never_selected():
    rows = told([1, 1], [0.9, 0.8])
    rows.log_probs[0] = np.nan
    found = ranked("agreement", rows)
    pool = sketch(found, pool_rows=2, seed=0)
    rule = TopShare(share=1.0).fit(pool, Labelled(np.ones(2, np.int64)), 0)
    assert rule.accepts(found).tolist() == [False, True]


def test_one_source_has_no_agreement():
    with pytest.raises(ValueError, match="needs beliefs of several sources"):
        ranked("agreement", Beliefs(["a"], np.zeros(1), np.ones(1), np.zeros((1, 2))))
