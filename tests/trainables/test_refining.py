"""Beliefs that follow from kept rows near by."""

import numpy as np
import pytest

from tests.trainables.selectors.pools import of_probs
from tests.trainables.test_neighbours import at_cosines
from trainables.nearby import NeighbourMean, PrototypeBlend, refined
from trainables.neighbours import Bank

ROW = np.array([[1.0, 0.0]])
NEVER = np.zeros(2)
EVERY = {
    "memory": NeighbourMean(k=None, share=0.1, temperature=0.1),
    "nearest": NeighbourMean(share=1.0, temperature=None),
    "prototypes": PrototypeBlend(share=1.0, class_temperature=1.5),
}
every_refinement = pytest.mark.parametrize("by", EVERY.values(), ids=EVERY.keys())


def of_row(by, bank: Bank, shares: np.ndarray = NEVER) -> np.ndarray:
    return np.exp(refined(by, of_probs([(0.7, 0.3)]), ROW, bank, shares).log_probs[0])


def nearest(rows: int) -> NeighbourMean:
    return NeighbourMean(k=rows, share=1.0, temperature=None)


def test_the_memory_of_comatch_has_its_golden_values():
    bank = Bank.of_probs(at_cosines(0.8, 0.6), np.array([[0.9, 0.1], [0.2, 0.8]]))
    found = of_row(NeighbourMean(k=None, share=0.1, temperature=0.2), bank)
    assert found == pytest.approx([0.701174, 0.298826], abs=1e-6)


def test_the_labelled_rows_of_simmatch_have_their_golden_values():
    bank = Bank.of_labels(
        at_cosines(*(0.5 + 0.1 * np.log([0.5, 0.3, 0.2]))), np.array([0, 1, 1]), 2
    )
    assert of_row(NeighbourMean(k=None, share=0.1, temperature=0.1), bank) == pytest.approx(
        [0.68, 0.32], abs=1e-6
    )


def test_the_nearest_rows_give_their_mean():
    bank = Bank.of_probs(at_cosines(0.9, 0.5, -1), np.array([[0.1, 0.9], [0.5, 0.5], [1, 0]]))
    assert of_row(nearest(1), bank) == pytest.approx([0.1, 0.9])
    assert of_row(nearest(2), bank) == pytest.approx([0.3, 0.7])


def test_likeness_to_class_means_counts_by_how_often_the_class_is_predicted():
    bank = Bank.of_labels(at_cosines(0.0, 1.0), np.array([0, 1]), 2)
    like = PrototypeBlend(share=1.0, class_temperature=1.5)
    assert of_row(like, bank) == pytest.approx([0.7, 0.3])
    assert of_row(like, bank, np.array([0.8, 0.2])) == pytest.approx([0, 1], abs=1e-6)
    share = 0.25 ** (1 / 1.5)
    rare = of_row(like, bank, np.array([0.2, 0.8]))
    assert rare == pytest.approx([0.7 * (1 - share), 0.3 + 0.7 * share], abs=1e-6)
    later = of_row(PrototypeBlend(share=0.0, class_temperature=1.5), bank, np.array([0.8, 0.2]))
    assert later == pytest.approx([0.7, 0.3])


@every_refinement
def test_an_empty_bank_changes_nothing_where_nothing_was_predicted_yet(by):
    empty = Bank.of_probs(np.zeros((0, 2)), np.zeros((0, 2)))
    assert of_row(by, empty) == pytest.approx([0.7, 0.3])


@every_refinement
def test_rows_of_nan_stay_so_and_touch_no_other(by):
    bank = Bank.of_labels(at_cosines(0.2, 0.9), np.array([0, 1]), 2)
    told = of_probs([(0.7, 0.3), (0.7, 0.3)])
    told.log_probs[1] = np.nan
    features = np.array([[1.0, 0.0], [np.nan, 0.0]])
    found = refined(by, told, features, bank, np.array([0.5, 0.5]))
    assert found.usable().tolist() == [True, False]
    alone = of_row(by, bank, np.array([0.5, 0.5]))
    assert np.exp(found.log_probs[0]) == pytest.approx(alone, abs=1e-6)


@every_refinement
def test_no_rows_are_refined_to_none(by):
    bank = Bank.of_labels(at_cosines(0.2, 0.9), np.array([0, 1]), 2)
    told = of_probs([(0.7, 0.3)])
    none = type(told).of_log_probs([], told.log_probs[:0])
    assert len(refined(by, none, ROW[:0], bank, NEVER)) == 0


@every_refinement
def test_refined_rows_sum_to_one(by):
    stream = np.random.default_rng(0)
    bank = Bank.of_probs(stream.normal(size=(40, 5)), stream.dirichlet([1, 1, 1], 40))
    told = of_probs(stream.dirichlet([1, 1, 1], 9))
    found = refined(by, told, stream.normal(size=(9, 5)), bank, np.array([0.5, 0.3, 0.2]))
    assert np.exp(found.log_probs).sum(axis=1) == pytest.approx(np.ones(9), abs=1e-5)
