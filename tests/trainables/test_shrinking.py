"""Which classes are dropped so that a row becomes sure of its first."""

import numpy as np
import pytest

from tests.trainables.selectors.pools import P
from trainables.shrinking import shrunk_classes

TABLE = np.array(P)


def draw(seed: int, num: int, classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([0.6] * classes, num)


def test_of_the_golden_table_one_unsure_row_becomes_sure():
    keep, found = shrunk_classes(TABLE, 0.95)
    assert np.flatnonzero(found).tolist() == [0, 9]
    assert keep[0].tolist() == [True, False, True]
    assert keep[1:].all()


@pytest.mark.parametrize(
    ("row", "share"),
    [
        (0, 0.957447),
        (1, 0.875),
        (2, 0.916667),
        (3, 0.944444),
        (4, 0.857143),
        (5, 0.507463),
        (6, 0.941176),
        (7, 0.821429),
        (8, 0.875),
    ],
)
def test_without_the_second_class_the_first_has_its_golden_share(row, share):
    assert shrunk_classes(TABLE[row : row + 1], share - 1e-6)[1].all()
    assert not shrunk_classes(TABLE[row : row + 1], share + 1e-6)[1].any()


def test_no_more_classes_are_dropped_than_needed():
    row = np.array([[0.4, 0.05, 0.3, 0.2, 0.05]])
    keep, found = shrunk_classes(row, 0.7)
    assert (found[0], keep[0].tolist()) == (True, [True, True, False, False, True])
    keep, found = shrunk_classes(row, 0.55)
    assert (found[0], keep[0].tolist()) == (True, [True, True, False, True, True])


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_random_rows_are_shrunk_as_by_trying_every_cut(threshold):
    probs = draw(0, 200, 6)
    keep, found = shrunk_classes(probs, threshold)
    for row, kept, sure in zip(probs, keep, found, strict=True):
        order = np.argsort(-row, kind="stable")
        sets = [order] + [np.r_[order[:1], order[cut:]] for cut in range(2, 6)]
        good = [each for each in sets if row[order[0]] / row[each].sum() >= threshold]
        assert sure == bool(good)
        assert np.flatnonzero(kept).tolist() == sorted(good[0] if good else order)


def test_rows_are_shrunk_one_by_one():
    probs, order = draw(1, 100, 5), np.random.default_rng(0).permutation(100)
    keep, found = shrunk_classes(probs, 0.9)
    again = shrunk_classes(probs[order], 0.9)
    assert (again[0] == keep[order]).all()
    assert (again[1] == found[order]).all()
    parts = [shrunk_classes(part, 0.9) for part in np.array_split(probs, 7)]
    assert (np.concatenate([part[0] for part in parts]) == keep).all()


def test_the_first_class_is_always_kept():
    probs = draw(2, 100, 5)
    keep, _ = shrunk_classes(probs, 0.9)
    assert keep[np.arange(100), probs.argmax(axis=1)].all()


def test_of_two_classes_none_can_be_dropped():
    keep, found = shrunk_classes(np.array([[0.6, 0.4], [1.0, 0.0], [0.5, 0.5]]), 0.9)
    assert keep.all()
    assert found.tolist() == [False, True, False]


def test_of_equal_probabilities_the_lowest_class_is_first():
    keep, found = shrunk_classes(np.full((1, 4), 0.25), 0.5)
    assert (found[0], keep[0].tolist()) == (True, [True, False, False, True])


@pytest.mark.filterwarnings("error")
def test_degenerate_rows_keep_all_their_classes():
    rows = np.array([[np.nan] * 3, [0.0] * 3, [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    keep, found = shrunk_classes(rows, 0.9)
    assert keep[:3].all()
    assert found.tolist() == [False, False, True, True]
    assert keep[3].tolist() == [True, True, False]
    assert shrunk_classes(np.zeros((0, 3)), 0.9)[0].shape == (0, 3)
    assert shrunk_classes(np.ones((2, 1)), 0.9)[1].all()
