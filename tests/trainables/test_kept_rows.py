"""Rows that a step keeps: which they are, and what a checkpoint holds of them."""

import numpy as np
import pytest

from trainables.kept_rows import EmbeddingSpec, KeptRows, LabelledRows, LatestRows

AXES = np.eye(3, dtype=np.float32)


def labelled(decay: float = 0.0) -> KeptRows:
    return KeptRows(EmbeddingSpec(keep=LabelledRows(decay=decay)), 2, 3)


def latest(rows: int, *, with_labelled: bool = True) -> KeptRows:
    return KeptRows(EmbeddingSpec(keep=LatestRows(rows=rows, labelled=with_labelled)), 2, 3)


def test_labelled_rows_have_places_and_those_not_yet_drawn_are_left_out():
    kept = labelled()
    assert len(kept.bank().features) == 0
    kept.see_labelled(np.array([3, 0]), np.array([1, 0]), AXES[:2] * 5, 4)
    assert kept.bank().features.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert kept.bank().probs.tolist() == [[1, 0], [0, 1]]
    kept.see_pool(AXES, np.full((3, 2), 0.5))
    assert len(kept.bank().features) == 2


def test_a_labelled_row_keeps_its_newest_embedding_or_a_mean_of_all():
    for decay, expected in ((0.0, [0, 1, 0]), (0.6, [0.83205, 0.5547, 0])):
        kept = labelled(decay)
        for axis in (0, 1):
            kept.see_labelled(np.array([0]), np.array([1]), AXES[axis : axis + 1], 1)
        assert kept.bank().features[0] == pytest.approx(expected, abs=1e-5)


def test_of_a_row_that_was_drawn_twice_the_last_view_counts():
    kept = labelled()
    kept.see_labelled(np.array([1, 1]), np.array([0, 0]), AXES[:2], 2)
    assert kept.bank().features.tolist() == [[0, 1, 0]]


def test_an_embedding_without_a_direction_changes_no_labelled_row():
    kept = labelled()
    kept.see_labelled(np.array([0]), np.array([1]), AXES[:1], 2)
    broken = np.array([[np.nan, 0, 0], [0, 0, 0]], np.float32)
    kept.see_labelled(np.array([0, 1]), np.array([1, 1]), broken, 2)
    assert kept.bank().features.tolist() == [[1, 0, 0]]


def test_the_oldest_of_the_latest_rows_go_first():
    kept = latest(4)
    kept.see_labelled(np.array([7]), np.array([1]), AXES[2:], 9)
    kept.see_pool(AXES[:2], np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert kept.bank().probs[:, 0] == pytest.approx([0, 0.9, 0.2])
    kept.see_pool(AXES[:2], np.array([[0.3, 0.7], [0.4, 0.6]]))
    assert kept.bank().probs[:, 0] == pytest.approx([0.9, 0.2, 0.3, 0.4])
    kept.see_pool(np.tile(AXES, (3, 1)), np.full((9, 2), 0.5))
    assert len(kept.bank().features) == 4


def test_labelled_rows_are_kept_among_the_latest_only_if_asked():
    kept = latest(4, with_labelled=False)
    kept.see_labelled(np.array([0]), np.array([1]), AXES[:1], 1)
    assert len(kept.bank().features) == 0


def test_latest_rows_of_nan_are_kept_nowhere():
    kept = latest(4)
    kept.see_pool(AXES[:2], np.array([[np.nan, np.nan], [0.2, 0.8]]))
    assert kept.bank().probs[:, 0] == pytest.approx([0.2])


@pytest.mark.parametrize("make", [labelled, lambda: latest(4)], ids=["labelled", "latest"])
def test_restored_rows_are_those_that_were_kept_and_share_no_memory(make):
    kept, other = make(), make()
    kept.see_labelled(np.array([0, 1]), np.array([1, 0]), AXES[:2], 3)
    given = kept.arrays()
    other.restore(given)
    for name, value in given.items():
        assert np.array_equal(other.arrays()[name], value)
        value.fill(9)
    assert (other.bank().features <= 1).all()
