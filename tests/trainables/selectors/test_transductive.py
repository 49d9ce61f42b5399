"""Golden values of transductive thresholds, which are those of the scans written out as loops."""

import warnings

import numpy as np
import pytest

from tests.trainables.selectors.pools import P
from trainables.selectors.rules import NEVER
from trainables.selectors.transductive import transductive_thresholds


def draw(seed: int, num: int, classes: int, concentration: float) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([concentration] * classes, num)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        (draw(0, 200, 3, 0.5), [0.4184005495372585, 0.4981217886660266, 0.4757450327572252]),
        (
            draw(1, 300, 4, 0.3),
            [0.4969001753252786, 0.4798356529994868, 0.4988093791912621, 0.4952891470138327],
        ),
        (draw(2, 120, 2, 1.0), [0.5044788232174683, 0.4955211767825317]),
    ],
)
def test_thresholds_have_their_golden_values(votes, expected):
    assert transductive_thresholds(votes) == pytest.approx(expected, abs=1e-12)


def test_the_golden_table_admits_nearly_everything_if_few_rows_suffice():
    found = transductive_thresholds(np.array(P), least_rows=1)
    assert found == pytest.approx([0.1228, 0.103, 0.0668])
    assert (transductive_thresholds(np.array(P)) == NEVER).all()


def test_a_posterior_other_than_the_votes_has_its_golden_values():
    stream = np.random.default_rng(3)
    votes, other = stream.dirichlet([0.4] * 3, 200), stream.dirichlet([0.4] * 3, 200)
    found = transductive_thresholds(votes, 0.8 * votes + 0.2 * other)
    golden = [0.4954515179931959, 0.498936995486239, 0.47589482900492636]
    assert found == pytest.approx(golden, abs=1e-12)
    assert (transductive_thresholds(votes, votes) == transductive_thresholds(votes)).all()


def test_a_coarser_grid_has_its_golden_values():
    found = transductive_thresholds(draw(0, 200, 3, 0.5), grid=20)
    golden = [0.448285438396046, 0.4981217886660266, 0.44601098289459873]
    assert found == pytest.approx(golden, abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_is_of_no_effect(seed, decimals):
    votes = draw(seed, 200, 4, 0.5)
    votes = votes if decimals is None else np.round(votes, decimals)
    order = np.random.default_rng(seed).permutation(len(votes))
    assert (transductive_thresholds(votes[order]) == transductive_thresholds(votes)).all()


def test_classes_are_thresholded_alike_under_other_names():
    votes, names = draw(5, 300, 4, 0.5), [2, 0, 3, 1]
    found = transductive_thresholds(votes[:, names])
    assert found == pytest.approx(transductive_thresholds(votes)[names])


def test_a_class_with_few_predicted_rows_accepts_none():
    votes = np.concatenate([draw(6, 100, 3, 0.5), np.zeros((100, 1))], axis=1)
    rows = np.bincount(votes.argmax(axis=1), minlength=4)
    found = transductive_thresholds(votes, least_rows=int(np.sort(rows)[2]))
    assert (found[rows < np.sort(rows)[2]] == NEVER).all()
    assert (found[rows >= np.sort(rows)[2]] <= 1).all()
    assert transductive_thresholds(votes, least_rows=0)[3] == NEVER


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("num", [0, 1, 50])
def test_degenerate_tables_have_thresholds(num, classes):
    sure = np.zeros((num, classes))
    sure[:, 0] = 1
    for votes in (sure, np.full((num, classes), 1 / classes)):
        found = transductive_thresholds(votes, least_rows=1)
        assert found[0] == (votes[0, 0] if num else NEVER)
        assert (found[1:] == NEVER).all()


def test_one_hot_votes_of_every_class_are_accepted():
    found = transductive_thresholds(np.eye(3)[np.arange(90) % 3])
    assert (found <= 1).all()


def test_rows_of_nan_are_left_out():
    votes = draw(7, 100, 3, 0.5)
    broken = np.concatenate([votes, np.full((5, 3), np.nan)])
    assert (transductive_thresholds(broken) == transductive_thresholds(votes)).all()
