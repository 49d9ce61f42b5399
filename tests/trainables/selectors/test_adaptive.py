"""Golden values of thresholds that follow from the pool, and what they become at their limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from tests.trainables.selectors.pools import QUICK, P, chosen, labelled, of_probs, part, pool
from trainables.selectors.adaptive import (
    ClassRate,
    EqualRate,
    FlexThreshold,
    FreeThreshold,
    LossBound,
    MixtureThreshold,
    RelativeThreshold,
    class_rates,
    mapped,
    mixture_cut,
)
from trainables.selectors.fixed import Threshold
from trainables.selectors.rules import Labelled
from trainables.selectors.sketch import sketch

TABLE = of_probs(P)
BLOCK = sketch(TABLE, pool_rows=10, seed=0)
LABELS = np.array([0, 0, 0, 1, 1, 0, 2, 0, 2, 0])


def out_of_fold(*confidences: float) -> Labelled:
    """Labelled rows of class 0 that are predicted right with these confidences."""
    probs = [[c, (1 - c) / 2, (1 - c) / 2] for c in confidences]
    return Labelled(np.array([len(probs), 1, 1]), of_probs(probs), np.zeros(len(probs), np.int64))


def least_of(selector, known: Labelled | None = None) -> tuple[float, ...]:
    return selector.fit(BLOCK, known or labelled(), 0).least


def test_flex_thresholds_have_their_golden_values_with_unsure_rows_counted():
    selector = FlexThreshold(threshold=0.8, floor=0.0)
    assert least_of(selector) == pytest.approx((0.16, 0.072727, 0.072727), abs=1e-6)
    assert chosen(selector, TABLE) == {str(i) for i in range(10)}


def test_flex_thresholds_have_their_golden_values_without_unsure_rows():
    selector = FlexThreshold(threshold=0.8, floor=0.0, count_unsure=False)
    assert least_of(selector) == pytest.approx((0.8, 0.266667, 0.266667), abs=1e-6)
    assert chosen(selector, TABLE) == {"0", "3", "4", "6", "8", "9"}


def test_a_floor_holds_flex_thresholds_up():
    assert least_of(FlexThreshold(threshold=0.8, floor=0.5)) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("mapping", "value"),
    [("convex", 0.333333), ("linear", 0.75), ("low", 0.666667), ("concave", 0.758888)],
)
def test_the_maps_of_flexmatch_have_their_golden_values(mapping, value):
    assert mapped(mapping, np.array([0.5, 1.0])) == pytest.approx([value, 1.0], abs=1e-6)


def test_flex_with_equal_counts_and_no_unsure_row_is_a_fixed_threshold():
    even = of_probs([[0.9, 0.1], [0.1, 0.9], [0.85, 0.15], [0.15, 0.85]])
    assert chosen(FlexThreshold(threshold=0.8, floor=0), even) == chosen(
        Threshold(threshold=0.8), even
    )


def test_free_thresholds_have_their_golden_values():
    assert least_of(FreeThreshold()) == pytest.approx((0.686, 0.422732, 0.395654), abs=1e-6)
    assert chosen(FreeThreshold(), TABLE) == {"0", "1", "3", "4", "6", "8", "9"}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.8, 1.0])
def test_a_quantile_stands_for_the_mean_confidence(share):
    found = least_of(FreeThreshold(quantile=share))
    middle, shares = np.quantile(np.array(P).max(axis=1), share), np.mean(P, axis=0)
    assert found == pytest.approx(tuple(middle * shares / shares.max()), abs=1e-6)


def test_free_with_a_uniform_mean_prediction_is_the_mean_confidence():
    even = of_probs([[0.9, 0.1], [0.1, 0.9], [0.7, 0.3], [0.3, 0.7]])
    rule = FreeThreshold().fit(sketch(even, pool_rows=4, seed=0), labelled(2), 0)
    assert rule.least == pytest.approx((0.8, 0.8), abs=1e-6)


def test_the_mean_confidence_of_free_is_held_between_its_bounds():
    assert max(least_of(FreeThreshold(floor=0.9))) == pytest.approx(0.9)
    assert max(least_of(FreeThreshold(ceiling=0.5))) == pytest.approx(0.5)


def test_a_relative_threshold_has_its_golden_set():
    selector, known = RelativeThreshold(share=0.9), out_of_fold(0.94, 0.9)
    assert selector.fit(BLOCK, known, 0).least == pytest.approx((0.828,) * 3)
    taken = selector.fit(BLOCK, known, 0).accepts(TABLE)
    assert np.flatnonzero(taken).tolist() == [0, 3, 9]


def test_a_relative_threshold_of_sure_labelled_rows_is_a_fixed_one():
    assert least_of(RelativeThreshold(share=0.9), out_of_fold(1.0, 1.0)) == pytest.approx(
        (0.9,) * 3
    )


def test_class_rates_have_their_golden_values_and_rows():
    frequent = np.array([6, 3, 1])
    assert class_rates(frequent, 3) == pytest.approx([0.550321, 0.793701, 1.0], abs=1e-6)
    rule = ClassRate(alpha=3).fit(BLOCK, Labelled(frequent), 0)
    assert np.flatnonzero(rule.accepts(TABLE)).tolist() == [0, 1, 3, 6, 8, 9]


@QUICK
@given(
    seed=st.integers(0, 999),
    num=st.integers(1, 60),
    shards=st.integers(1, 5),
    alpha=st.floats(0.1, 100),
    rows=st.lists(st.integers(0, 50), min_size=3, max_size=3),
)
def test_a_class_rate_takes_the_first_rows_of_each_class_by_confidence(
    seed, num, shards, alpha, rows
):
    whole, known = pool(seed, num), Labelled(np.array(rows))
    parts = np.array_split(np.random.default_rng(seed).permutation(num), shards)
    blocks = [sketch(part(whole, rows), pool_rows=num, seed=0) for rows in parts]
    merged = blocks[0]
    for block in blocks[1:]:
        merged = merged.merge(block)
    taken = ClassRate(alpha=alpha).fit(merged, known, 0).accepts(whole)
    rates = class_rates(known.class_rows, alpha)
    for label in range(3):
        mine = whole.labels == label
        assert taken[mine].sum() == math.floor(rates[label] * mine.sum() + 1e-9)
        if taken[mine].any() and not taken[mine].all():
            confidence = whole.confidence
            assert confidence[mine & taken].min() >= confidence[mine & ~taken].max()


def test_equal_labelled_classes_give_everything():
    rule = ClassRate().fit(BLOCK, Labelled(np.array([4, 4, 4])), 0)
    assert rule.accepts(TABLE).all()


def test_every_class_gives_the_share_that_the_most_frequent_one_gives():
    rule = EqualRate(threshold=0.7).fit(BLOCK, Labelled(np.array([6, 3, 1])), 0)
    # class 0 has 6 rows, 3 of them from 0.7 on: half of each class
    assert np.flatnonzero(rule.accepts(TABLE)).tolist() == [0, 1, 3, 6, 9]


def test_among_classes_with_equally_many_labels_the_most_predicted_one_gives_the_share():
    balanced = Labelled(np.array([10, 10, 10]))
    rule = EqualRate(threshold=0.7).fit(BLOCK, balanced, 0)
    assert rule.cuts == EqualRate(threshold=0.7).fit(BLOCK, Labelled(np.array([6, 3, 1])), 0).cuts
    unseen = of_probs([[0.02, 0.97, 0.01], [0.01, 0.03, 0.96], [0.01, 0.02, 0.97]])
    rule = EqualRate(threshold=0.9).fit(sketch(unseen, pool_rows=3, seed=0), balanced, 0)
    assert rule.accepts(unseen).all()  # no row is predicted as the first class


def test_a_loss_bound_is_a_bound_on_confidence():
    known = out_of_fold(np.exp(-0.5), np.exp(-0.1))
    assert least_of(LossBound(scale=1.0), known) == pytest.approx((np.exp(-0.3),) * 3)
    assert least_of(LossBound(scale=0.01), known) == pytest.approx((np.exp(-0.05),) * 3)


BIMODAL = np.array([0.21, 0.25, 0.3, 0.33, 0.4, 0.42, 0.78, 0.81, 0.85, 0.9, 0.92])


def fitted_elsewhere(precision: float, tolerance: float) -> tuple[float, float]:
    """Lowest and densest score of the upper component, as scikit-learn fits the mixture."""
    column = BIMODAL[:, None]
    mixture = GaussianMixture(
        2,
        weights_init=[0.5, 0.5],
        means_init=[[BIMODAL.min()], [BIMODAL.max()]],
        precisions_init=np.full((2, 1, 1), precision),
        tol=tolerance,
        max_iter=1000,
    ).fit(column)
    upper = mixture.predict(column) == mixture.means_.argmax()
    densest = mixture.score_samples(column)[upper].argmax()
    return BIMODAL[upper].min(), BIMODAL[upper][densest]


@pytest.mark.parametrize(("cut", "expected"), [("lowest", 0.78), ("densest", 0.85)])
def test_a_mixture_of_two_has_its_golden_cut(cut, expected):
    """The released settings give 0.78 for both: from a precision of 1 they stop at a change below
    1e-3, with means of 0.53 and 0.59, and the density of such a mixture falls over the scores."""
    found = mixture_cut(BIMODAL, np.ones(11, np.int64), cut)
    assert found == pytest.approx(expected, abs=1e-12)
    assert fitted_elsewhere(4 / BIMODAL.var(), 1e-6) == pytest.approx((0.78, 0.85), abs=1e-12)
    assert fitted_elsewhere(1.0, 1e-3) == pytest.approx((0.78, 0.78), abs=1e-12)


def test_repeated_scores_weigh_as_often_as_they_occur():
    scores = np.array([0.2, 0.3, 0.8, 0.9])
    once = mixture_cut(np.repeat(scores, [5, 1, 1, 5]), np.ones(12, np.int64), "lowest")
    assert mixture_cut(scores, np.array([5, 1, 1, 5]), "lowest") == pytest.approx(once)


def test_a_class_with_few_rows_uses_the_given_threshold():
    selector = MixtureThreshold(least_rows=4, threshold=0.95)
    least = least_of(selector)
    assert least[1:] == pytest.approx((0.95, 0.95))
    assert least[0] < 0.95


def test_equal_confidences_are_one_component():
    flat = pool(0, 40, levels=1)
    rule = MixtureThreshold(least_rows=4).fit(sketch(flat, pool_rows=40, seed=0), labelled(), 0)
    assert rule.accepts(flat).all()
