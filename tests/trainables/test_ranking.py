"""What selectors order rows by."""

import numpy as np
import pytest

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
