"""Golden values of labels smoothed over neighbours, and what each becomes at its limits."""

import warnings

import numpy as np
import pytest

from tests.trainables.selectors.pools import P
from trainables.neighbours import (
    Bank,
    agreement,
    blend,
    class_margins,
    class_shares,
    memory_smooth,
    neighbours,
    prototype_log_probs,
    prototypes,
    smooth,
    unfold,
)

TABLE = np.array(P)


def draw(seed: int, num: int, width: int = 16, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(seed)
    return stream.normal(size=(num, width)).astype(np.float32), stream.dirichlet([1] * classes, num)


def at_cosines(*cosines: float) -> np.ndarray:
    """Features with these cosines to (1, 0)."""
    return np.array([[c, (1 - c * c) ** 0.5] for c in cosines])


def named(num: int) -> list[str]:
    return [f"row-{i}" for i in range(num)]


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_the_memory_of_comatch_has_its_golden_values():
    bank = Bank.of_probs(at_cosines(0.8, 0.6), np.array([[0.9, 0.1], [0.2, 0.8]]))
    found = memory_smooth(bank, np.array([[1.0, 0.0]]), np.array([[0.7, 0.3]]))
    assert found[0] == pytest.approx([0.701174, 0.298826], abs=1e-6)


def test_the_labelled_bank_of_simmatch_has_its_golden_values():
    cosines = 0.5 + 0.1 * np.log([0.5, 0.3, 0.2])
    bank = Bank.of_labels(at_cosines(*cosines), np.array([0, 1, 1]), 2)
    row, probs = np.array([[1.0, 0.0]]), np.array([[0.7, 0.3]])
    aggregated = memory_smooth(bank, row, probs, temperature=0.1)
    assert aggregated[0] == pytest.approx([0.68, 0.32], abs=1e-6)
    assert unfold(bank, row, probs)[0] == pytest.approx([0.7, 0.18, 0.12], abs=1e-6)


def test_the_agreement_of_dpa_has_its_golden_values():
    other = TABLE[::-1]
    labels = blend(TABLE, other, 0.5).argmax(axis=1)
    golden = [1, 0.285714, 1, 0.1875, 0.970588, 0.970588, 0.1875, 1, 0.285714, 1]
    assert agreement(TABLE, other, labels) == pytest.approx(golden, abs=1e-6)


def test_neighbours_are_those_of_a_full_sort():
    features, probs = draw(0, 300)
    bank = Bank.of_probs(features, probs)
    queries, _ = draw(1, 90)
    found, cosines = neighbours(bank, queries, 7)
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    exact = unit.astype(np.float64) @ bank.features.astype(np.float64).T
    assert (found == np.argsort(-exact, axis=1)[:, :7]).all()
    assert cosines == pytest.approx(np.take_along_axis(exact, found, axis=1), abs=1e-6)


def test_of_equally_near_rows_the_first_are_neighbours():
    features, probs = draw(2, 40)
    features[[3, 11, 12, 29, 39]] = features[5]
    found, cosines = neighbours(Bank.of_probs(features, probs), features[5:6], 4)
    assert found[0].tolist() == [3, 5, 11, 12]
    assert cosines[0] == pytest.approx([1, 1, 1, 1], abs=1e-6)


def test_a_row_is_no_neighbour_of_its_own_if_ids_are_given():
    features, probs = draw(3, 50)
    bank = Bank.of_probs(features, probs, named(50))
    with_self, _ = neighbours(bank, features, 3)
    without, _ = neighbours(bank, features, 2, named(50))
    assert (with_self[:, 0] == np.arange(50)).all()
    assert (without == with_self[:, 1:]).all()
    strange, _ = neighbours(bank, features, 3, ["other"] * 50)
    assert (strange == with_self).all()


def test_the_only_neighbour_of_a_row_in_the_bank_is_itself():
    features, probs = draw(4, 60)
    bank = Bank.of_probs(features, probs)
    own = smooth(bank, np.zeros_like(probs), *neighbours(bank, features, 1))
    assert own == pytest.approx(probs, abs=1e-7)


def test_a_mean_over_neighbours_is_plain_or_weighted_by_nearness():
    bank = Bank.of_probs(at_cosines(0.8, 0.6, -1.0), np.array([[0.9, 0.1], [0.2, 0.8], [0, 1.0]]))
    row, own = np.array([[2.0, 0.0]]), np.array([[0.5, 0.5]])
    near = neighbours(bank, row, 2)
    assert smooth(bank, own, *near)[0] == pytest.approx([0.55, 0.45])
    share = 1 / (1 + np.exp(-0.2 / 0.07))
    expected = 0.9 * share + 0.2 * (1 - share)
    assert smooth(bank, own, *near, temperature=0.07)[0, 0] == pytest.approx(expected, abs=1e-5)
    flat = smooth(bank, own, *near, temperature=1e6)
    assert flat == pytest.approx(smooth(bank, own, *near), abs=1e-6)


def test_a_sharp_memory_says_what_the_nearest_row_says():
    features, probs = draw(5, 80)
    queries, own = draw(6, 30)
    bank = Bank.of_probs(features, probs)
    nearest, _ = neighbours(bank, queries, 1)
    sharp = memory_smooth(bank, queries, own, alpha=0.0, temperature=1e-9)
    assert sharp == pytest.approx(probs[nearest[:, 0]], abs=1e-6)
    assert memory_smooth(bank, queries, own, alpha=1.0) == pytest.approx(own)


def test_a_memory_leaves_a_row_itself_out_if_ids_are_given():
    features, probs = draw(7, 30)
    bank = Bank.of_probs(features, probs, named(30))
    rest = Bank.of_probs(features[1:], probs[1:])
    without = memory_smooth(bank, features[:1], probs[:1], ids=named(1))
    assert without == pytest.approx(memory_smooth(rest, features[:1], probs[:1]), abs=1e-6)


def test_rows_are_smoothed_one_by_one():
    features, probs = draw(8, 1300, width=33)
    bank = Bank.of_probs(features[:101], probs[:101], named(101))
    names, centres = named(1300), draw(9, 5, width=33)[0]

    def all_of(rows: np.ndarray) -> np.ndarray:
        block, own, ids = features[rows], probs[rows], [names[row] for row in rows]
        found, cosines = neighbours(bank, block, 5, ids)
        parts = (
            found,
            cosines,
            smooth(bank, own, found, cosines, 0.1),
            memory_smooth(bank, block, own, ids=ids),
            unfold(bank, block, own),
            prototype_log_probs(block, centres, 0.05),
            class_margins(block, centres, rows % 5)[:, None],
        )
        return np.concatenate(parts, axis=1)

    rows = np.arange(1300)
    whole = all_of(rows)
    assert np.isfinite(whole).all()
    order = np.random.default_rng(0).permutation(1300)
    assert (all_of(order) == whole[order]).all()
    for parts in (7, 100):
        cut = np.concatenate([all_of(part) for part in np.array_split(rows, parts)])
        assert (cut == whole).all()
    assert (all_of(rows[:1]) == whole[:1]).all()


def test_prototypes_are_directions_of_class_means():
    features = np.array([[2.0, 0.0], [0.0, 3.0], [0.0, -1.0], [5.0, 5.0], [9.0, -9.0]])
    labels = np.array([0, 0, 1, -1, -1])
    found = prototypes(features, labels, 3)
    assert found == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0, -1], [0, 0]]), abs=1e-6)
    fallback = np.array([[0, 1.0], [0, 1.0], [-2.0, 0]])
    filled = prototypes(features, labels, 3, fallback)
    assert filled == pytest.approx(np.array([*found[:2], [-1.0, 0]]))


def test_the_order_of_rows_is_of_no_effect_on_prototypes():
    features, probs = draw(10, 200)
    labels, order = probs.argmax(axis=1), np.random.default_rng(0).permutation(200)
    found = prototypes(features[order], labels[order], 3)
    assert found == pytest.approx(prototypes(features, labels, 3), abs=1e-6)


def test_opposite_rows_have_no_prototype():
    features = np.array([[0.3, 0.1], [-0.3, -0.1]])
    assert (prototypes(features, np.array([0, 0]), 1) == 0).all()


def test_a_row_is_as_likely_of_a_class_as_it_is_near_to_its_prototype():
    centres = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    logs = prototype_log_probs(np.array([[3.0, 0.0], [1.0, 1.0]]), centres, 0.5)
    share = 1 / (1 + np.exp(-2.0))
    assert np.exp(logs) == pytest.approx(np.array([[share, 1 - share, 0], [0.5, 0.5, 0]]), abs=1e-6)


def test_a_margin_is_nearness_to_the_own_prototype_less_that_to_the_next():
    centres = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    rows = np.array([[0.8, 0.6]] * 3)
    margins = class_margins(rows, centres, np.array([0, 1, 2]))
    assert margins == pytest.approx([0.2, -0.2, -1.6], abs=1e-6)
    assert class_margins(rows[:1], centres[:1] * 0, np.array([0])).tolist() == [0.0]


def test_a_blend_takes_a_share_of_the_other_by_the_most_probable_class():
    probs = np.array([[0.8, 0.2], [0.3, 0.7]])
    other = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert blend(probs, other, 0.25) == pytest.approx(np.array([[0.6, 0.4], [0.475, 0.525]]))
    by_class = blend(probs, other, np.array([1.0, 0.0]))
    assert by_class == pytest.approx(np.array([[0.0, 1.0], [0.3, 0.7]]))
    assert (blend(probs, other, 0.0) == probs).all()


def test_a_more_predicted_class_takes_a_larger_share():
    assert class_shares(np.array([8, 1, 0]), 1.5) == pytest.approx([1, 0.25, 0])
    assert class_shares(np.array([8, 1, 0]), 1.0) == pytest.approx([1, 0.125, 0])
    assert class_shares(np.array([5, 5])).tolist() == [1, 1]
    assert class_shares(np.array([0, 0])).tolist() == [0, 0]


def test_rows_without_a_direction_keep_what_they_have():
    features, probs = draw(11, 20)
    features[[1, 2]] = [[0.0] * 16, [np.nan] * 16]
    bank = Bank.of_probs(features, probs, named(20))
    assert bank.features.shape == (18, 16)
    assert bank.ids == (*named(1), *named(20)[3:])
    assert Bank.of_probs(features, np.full((20, 3), np.nan)).probs.shape == (0, 3)
    kept = smooth(bank, probs, *neighbours(bank, features, 4))
    mixed = memory_smooth(bank, features, probs)
    assert (kept[[1, 2]] == probs[[1, 2]]).all()
    assert (mixed[[1, 2]] == probs[[1, 2]]).all()
    assert np.isfinite(kept).all()
    alike = unfold(bank, features, probs)
    assert (alike[[1, 2]] == 0).all()
    assert np.delete(alike, [1, 2], axis=0).sum(axis=1) == pytest.approx(np.ones(18), abs=1e-5)
    logs = prototype_log_probs(features, features[5:8], 0.1)
    assert np.exp(logs[[1, 2]]) == pytest.approx(np.full((2, 3), 1 / 3))


def test_a_bank_of_no_row_or_of_the_row_itself_changes_nothing():
    features, probs = draw(12, 3)
    for bank in (
        Bank.of_labels(features, np.full(3, -1), 3),
        Bank.of_probs(features[:1], probs[:1], named(1)),
    ):
        found, cosines = neighbours(bank, features[:1], 5, named(1))
        assert found.shape == (1, len(bank.ids))
        assert (smooth(bank, probs[:1], found, cosines, 0.1) == probs[:1]).all()
        assert (memory_smooth(bank, features[:1], probs[:1], ids=named(1)) == probs[:1]).all()


def test_no_rows_are_smoothed_to_none():
    features, probs = draw(13, 10)
    bank = Bank.of_probs(features, probs)
    found, cosines = neighbours(bank, features[:0], 4)
    assert found.shape == cosines.shape == (0, 4)
    assert smooth(bank, probs[:0], found, cosines).shape == (0, 3)
    assert memory_smooth(bank, features[:0], probs[:0]).shape == (0, 3)
    assert unfold(bank, features[:0], probs[:0]).shape == (0, 10)
    assert unfold(Bank.of_labels(features, np.full(10, -1), 3), features, probs).shape == (10, 0)
    assert prototype_log_probs(features[:0], features, 0.1).shape == (0, 10)
    assert (prototypes(features[:0], np.zeros(0, np.int64), 3) == 0).all()
    assert blend(probs[:0], probs[:0], 0.5).shape == (0, 3)


def test_one_hot_rows_of_two_classes_stay_finite():
    features, _ = draw(14, 40)
    labels = np.arange(40) % 2
    bank = Bank.of_labels(features, labels, 2)
    mixed = memory_smooth(bank, features, np.eye(2)[labels], temperature=1e-3)
    assert mixed.sum(axis=1) == pytest.approx(np.ones(40))
    assert (mixed.argmax(axis=1) == labels).all()
