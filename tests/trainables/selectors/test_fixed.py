"""What each fixed rule takes."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.selectors.pools import (
    QUICK,
    P,
    chosen,
    distinct,
    fitted,
    labelled,
    of_probs,
    part,
    per_class,
    pool,
)
from trainables.beliefs import Beliefs
from trainables.schedules import Linear, at_round
from trainables.selectors import sketch as sketches
from trainables.selectors.fixed import (
    ClassShare,
    ClassTopK,
    EvenShare,
    Everything,
    Threshold,
    TopShare,
)
from trainables.selectors.sketch import sketch

# ---- everything, threshold


def test_everything_takes_every_usable_row():
    assert len(chosen(Everything(), of_probs(P))) == 10


def test_a_threshold_has_its_golden_set_and_accepts_equality():
    assert chosen(Threshold(threshold=0.8), of_probs(P)) == set("0369")
    assert chosen(Threshold(threshold=0.75), of_probs([[0.75, 0.25]])) == {"0"}


# ---- top_share


@pytest.mark.parametrize(
    ("share", "cut", "expected"),
    [
        (0.2, 0.86, "09"),
        (0.4, 0.74, "0369"),
        (0.6, 0.66, "013689"),
        (0.8, 0.532, "01234689"),
        (1.0, 0.34, "0123456789"),
    ],
)
def test_curriculum_labeling_has_its_golden_thresholds_and_sets(share, cut, expected):
    rule = fitted(TopShare(share=share), [of_probs(P)])
    assert rule.least == pytest.approx([cut] * 3, abs=1e-6)
    assert chosen(TopShare(share=share), of_probs(P)) == set(expected)


@pytest.mark.parametrize("num", [7, 11, 21, 41, 101, 333])
def test_a_top_share_without_ties_takes_exactly_its_rows(num):
    for twentieths in range(1, 21):
        share = Fraction(twentieths, 20)
        expected = num - ceil((1 - share) * (num - 1))
        assert len(chosen(TopShare(share=float(share)), distinct(num))) == expected


def test_a_top_share_is_exact_where_the_cut_falls_on_a_row():
    # 1 - 0.7 is a little above 0.3 in binary: the fourth row from below must still be taken
    top = [0.01, 0.011, 0.012, 0.013, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97]
    ids = [str(i) for i in range(11)]
    labels = np.zeros(11, np.int64)
    beliefs = Beliefs(ids, labels, np.float32(top), np.log(np.float32(top))[:, None])
    assert len(chosen(TopShare(share=0.7), beliefs)) == 8


@QUICK
@given(seed=st.integers(0, 999), num=st.integers(1, 40), twentieths=st.integers(1, 20))
def test_ties_at_the_cut_of_a_top_share_enter(seed, num, twentieths):
    whole, share = pool(seed, num), Fraction(twentieths, 20)
    found = chosen(TopShare(share=float(share)), whole)
    assert len(found) >= num - ceil((1 - share) * (num - 1))
    least = min(whole.confidence[int(i.removeprefix("row-"))] for i in found)
    assert len(found) == (whole.confidence >= least).sum()


def test_a_top_share_of_saturated_confidences_does_not_jump():
    # 1 - 10^(-6 .. -2): float16 would call more than half of these rows equal
    top = 1 - 10 ** np.linspace(-6, -2, 500)
    beliefs = of_probs(np.stack([top, 1 - top], axis=1).tolist())
    assert 100 <= len(chosen(TopShare(share=0.2), beliefs)) <= 102


def test_no_share_takes_no_row_even_if_all_are_certain():
    assert chosen(TopShare(share=0.0), of_probs([[1.0, 0.0]] * 3)) == set()


# ---- class_share


@QUICK
@given(seed=st.integers(0, 999), num=st.integers(1, 60), share=st.floats(0.001, 1))
def test_a_class_share_gives_each_predicted_class_its_rows_and_one_at_least(seed, num, share):
    whole = pool(seed, num, classes=4)
    counts = np.bincount(whole.labels, minlength=4)
    expected = [ceil(share * n - 1e-9) for n in counts]
    found = per_class(whole, chosen(ClassShare(share=share), whole))
    assert found == expected
    assert all(taken >= 1 for taken, n in zip(found, counts, strict=True) if n)


def test_a_class_share_takes_the_most_confident_rows_of_each_class():
    assert chosen(ClassShare(share=0.5), of_probs(P)) == set("901" + "3" + "6")


def test_a_third_of_three_rows_is_one_row():
    share = 1 / 3
    assert per_class(of_probs(P[:3]), chosen(ClassShare(share=share), of_probs(P[:3]))) == [1, 0, 0]


# ---- class_top_k


@pytest.mark.parametrize(("k", "expected"), [(1, "936"), (2, "093468"), (3, "0913468")])
def test_class_top_k_has_its_golden_sets(k, expected):
    assert chosen(ClassTopK(k=k), of_probs(P)) == set(expected)


def test_the_k_of_grip_grows_in_its_golden_steps_to_the_whole_pool():
    """1,000 rows of 5 equal classes: K = 20, 40, ..., 200 over ten rounds."""
    top = np.random.default_rng(0).permutation(np.linspace(0.3, 0.99, 1000))
    probs = np.repeat(((1 - top) / 4)[:, None], 5, axis=1)
    probs[np.arange(1000), np.arange(1000) % 5] = top
    whole = of_probs(probs.tolist())
    growing = ClassTopK(k=Linear(start=20, end=200))
    found = [per_class(whole, chosen(at_round(growing, r, 10), whole)) for r in range(10)]
    assert found == [[k] * 5 for k in range(20, 201, 20)]


@QUICK
@given(seed=st.integers(0, 999), num=st.integers(0, 60), k=st.integers(1, 12))
def test_class_top_k_takes_k_rows_of_each_class_and_never_more(seed, num, k):
    whole = pool(seed, num, classes=4, levels=2)
    counts = np.bincount(whole.labels, minlength=4)
    assert per_class(whole, chosen(ClassTopK(k=k), whole)) == np.minimum(counts, k).tolist()


def test_class_top_k_prefers_the_more_confident():
    whole = distinct(60)
    found = chosen(ClassTopK(k=5), whole)
    for label in range(3):
        mine = np.flatnonzero(whole.labels == label)
        best = mine[np.argsort(-whole.confidence[mine])[:5]]
        assert {whole.example_ids[i] for i in best} == found & {str(i) for i in mine}


def test_the_floor_refuses_rows_that_the_count_would_take():
    found = chosen(ClassTopK(k=2, least_confidence=0.75), of_probs(P))
    assert found == set("0936")


@pytest.mark.parametrize(("share", "k"), [(0.2, 4), (0.5, 10), (1.0, 20), (0.001, 1)])
def test_a_share_of_an_even_class_is_so_many_rows_of_each(share, k):
    whole = distinct(60)  # 60 rows of 3 classes: 20 each
    assert chosen(EvenShare(share=share), whole) == chosen(ClassTopK(k=k), whole)


@pytest.mark.parametrize("selector", [ClassTopK(k=3), ClassShare(share=0.2)], ids=str)
def test_ties_are_broken_by_id_and_seed_not_by_position(selector):
    ids = [f"photo-{i}.png" for i in range(15)]
    even = of_probs([[0.9, 0.1]] * 15, ids)
    first = chosen(selector, even)
    assert len(first) == 3
    for turn in range(15):
        assert chosen(selector, part(even, np.roll(np.arange(15), turn))) == first
    assert len({frozenset(chosen(selector, even, seed=seed)) for seed in range(6)}) > 1


@pytest.mark.parametrize("k", [1, 20, 300])
def test_a_coarse_class_top_k_exceeds_k_by_less_than_one_key(k):
    whole = distinct(6000)
    keys = sketches.row_keys(whole, coarse=True, seed=0)
    largest = max(np.unique(keys[whole.labels == c], return_counts=True)[1].max() for c in range(3))
    taken = per_class(whole, chosen(ClassTopK(k=k), whole, coarse=True))
    assert all(k <= n < k + largest for n in taken)


def test_pools_above_the_limit_are_selected_from_within_the_stated_bounds(monkeypatch):
    whole = distinct(4000)
    exact = chosen(TopShare(share=0.25), whole)
    monkeypatch.setattr(sketches, "EXACT_ROWS", 1000)
    block = sketch(whole, pool_rows=len(whole), seed=0)
    rule = TopShare(share=0.25).fit(block, labelled(), 0)
    coarse = {whole.example_ids[i] for i in np.flatnonzero(rule.accepts(whole))}
    assert rule.coarse
    assert exact <= coarse
    least = min(whole.confidence[int(i)] for i in exact)
    assert all(whole.confidence[int(i)] >= least * (1 - 2.0**-13) for i in coarse)
