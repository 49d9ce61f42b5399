"""The first principal component of sureness and evenness, and degenerate samples."""

import numpy as np
import pytest

from tests.trainables.selectors.pools import P, of_probs
from trainables.selectors.component import Component, first_component

TABLE = of_probs(P)


def test_the_golden_table_has_its_direction():
    found = first_component(TABLE.log_probs)
    assert found.direction == pytest.approx((0.707107, -0.707107), abs=1e-6)


def test_the_direction_is_that_of_a_singular_value_decomposition():
    probs = np.random.default_rng(3).dirichlet([0.5] * 4, 200)
    sure = probs.max(axis=1)
    rest = np.sort(probs, axis=1)[:, :-1]
    scores = np.stack([sure, rest.var(axis=1)], axis=1)
    scores = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    (direction, _) = np.linalg.svd(scores, full_matrices=False)[2]
    direction *= np.sign(direction[0])
    found = first_component(np.log(probs))
    assert found.direction == pytest.approx(tuple(direction), abs=1e-9)
    beliefs = of_probs(probs.tolist())
    accepted = found.accepts(beliefs)
    clear = np.abs(scores @ direction) > 1e-5  # the table's numbers are rounded
    assert (accepted == (scores @ direction > 0))[clear].all()
    assert 0 < accepted.sum() < 200


def test_of_two_classes_the_rows_surer_than_the_mean_are_accepted():
    two = of_probs([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
    found = first_component(two.log_probs)
    assert found.direction == (1.0, 0.0)
    assert found.accepts(two).tolist() == [True, True, False, False]


@pytest.mark.parametrize("row", [[0.6, 0.3, 0.1], [1.0, 0.0, 0.0], [1 / 3] * 3, [0.5, 0.5]])
@pytest.mark.parametrize("num", [1, 2, 1000])
def test_of_equal_rows_none_is_on_the_sure_side(row, num):
    same = of_probs([row] * num)
    assert not first_component(same.log_probs).accepts(same).any()


def test_over_no_rows_none_is_accepted():
    found = first_component(np.zeros((0, 3), np.float32))
    assert found == Component((0.0, 0.0), (np.inf, np.inf), (1.0, 0.0))
    assert not found.accepts(TABLE).any()
