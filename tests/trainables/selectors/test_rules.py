"""Laws of all selectors that act on the whole pool."""

from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tests.trainables.selectors.pools import (
    EVERY,
    QUICK,
    P,
    chosen,
    fitted,
    labelled,
    of_probs,
    part,
    pool,
)
from trainables.beliefs import Beliefs
from trainables.schedules import Linear, at_round
from trainables.selectors import sketch as sketches
from trainables.selectors.adaptive import (
    ClassRate,
    OutOfFoldPrecision,
)
from trainables.selectors.fixed import ClassShare, ClassTopK, EvenShare, Threshold, TopShare
from trainables.selectors.library import Selector
from trainables.selectors.rules import Labelled
from trainables.selectors.sketch import sketch

every_selector = pytest.mark.parametrize("selector", EVERY, ids=str)
both_sketches = pytest.mark.parametrize("coarse", [False, True])


def test_every_selector_has_an_example():
    every = get_args(get_args(Selector)[0])
    assert {type(s) for s in EVERY} == {kind for kind in every if not kind.needs_sample}


@both_sketches
@every_selector
@QUICK
@given(seed=st.integers(0, 999), num=st.integers(0, 40), shards=st.integers(1, 7))
def test_selecting_from_shards_is_selecting_from_the_whole(selector, coarse, seed, num, shards):
    whole = pool(seed, num)
    owner = np.random.default_rng(seed).integers(0, shards, num)
    parts = [part(whole, np.flatnonzero(owner == k)) for k in range(shards)]
    assert chosen(selector, *parts, coarse=coarse) == chosen(selector, whole, coarse=coarse)
    assert chosen(selector, *parts[::-1], coarse=coarse) == chosen(selector, whole, coarse=coarse)


@both_sketches
@every_selector
@QUICK
@given(seed=st.integers(0, 999), num=st.integers(1, 40))
def test_the_order_of_rows_does_not_matter(selector, coarse, seed, num):
    whole = pool(seed, num)
    turned = part(whole, np.random.default_rng(seed).permutation(num))
    assert chosen(selector, turned, coarse=coarse) == chosen(selector, whole, coarse=coarse)


@every_selector
def test_a_rule_is_applied_row_by_row(selector):
    whole = pool(1, 40)
    rule = fitted(selector, [whole])
    alone = [bool(rule.accepts(part(whole, [i]))[0]) for i in range(40)]
    assert rule.accepts(whole).tolist() == alone


@every_selector
@QUICK
@given(seed=st.integers(0, 999), num=st.integers(0, 40))
def test_the_sketch_counts_the_rows_that_a_rule_accepts(selector, seed, num):
    whole = pool(seed, num)
    rule = fitted(selector, [whole])
    counted = sketch(whole, pool_rows=sketches.EXACT_ROWS, seed=0).reaching(rule.cuts, rule.least)
    assert counted.tolist() == np.bincount(whole.labels[rule.accepts(whole)], minlength=3).tolist()


@both_sketches
@every_selector
@QUICK
@given(seed=st.integers(0, 999), num=st.integers(1, 30), broken=st.sets(st.integers(0, 29)))
def test_a_row_of_nan_is_never_accepted_and_moves_no_threshold(selector, coarse, seed, num, broken):
    broken = {i for i in broken if i < num}
    damaged, whole = pool(seed, num), pool(seed, num)
    damaged.log_probs[sorted(broken), 0] = np.nan
    kept = part(whole, [i for i in range(num) if i not in broken])
    assert chosen(selector, damaged, coarse=coarse) == chosen(selector, kept, coarse=coarse)


@every_selector
def test_a_confidence_of_nan_is_never_accepted(selector):
    whole = pool(0, 20)
    damaged = Beliefs.of_log_probs(whole.example_ids, whole.log_probs.copy())
    damaged.log_probs[4] = np.nan
    damaged = Beliefs.of_log_probs(damaged.example_ids, damaged.log_probs)
    assert np.isnan(damaged.confidence[4])
    assert whole.example_ids[4] not in chosen(selector, damaged)


@both_sketches
@every_selector
def test_nothing_is_chosen_from_an_empty_pool(selector, coarse):
    assert chosen(selector, pool(0, 0), coarse=coarse) == set()


@both_sketches
@every_selector
def test_an_empty_shard_changes_nothing(selector, coarse):
    whole = pool(3, 25)
    with_empty = chosen(selector, part(whole, []), whole, part(whole, []), coarse=coarse)
    assert with_empty == chosen(selector, whole, coarse=coarse)


@both_sketches
@every_selector
@pytest.mark.parametrize("classes", [1, 2])
def test_one_and_two_classes_are_no_special_case(selector, coarse, classes):
    whole = pool(0, 12, classes)
    found = chosen(selector, whole, coarse=coarse)
    assert found <= set(whole.example_ids)
    assert len(fitted(selector, [whole]).thresholds()) == classes


@both_sketches
@every_selector
def test_no_accepted_row_is_less_sure_than_the_threshold_of_its_class(selector, coarse):
    whole = pool(3, 25)
    rule = fitted(selector, [whole], coarse=coarse)
    taken, thresholds = rule.accepts(whole), np.array(rule.thresholds())
    # a coarse key stands for the lower edge of its bin
    assert (whole.confidence[taken] >= thresholds[whole.labels[taken]] - 1e-9).all()


@pytest.mark.parametrize("selector", [ClassShare(share=0.5), ClassTopK(k=2), TopShare(share=0.3)])
def test_the_threshold_of_a_ranking_selector_is_its_least_accepted_confidence(selector):
    whole = pool(3, 25)
    rule = fitted(selector, [whole])
    taken, thresholds = rule.accepts(whole), rule.thresholds()
    for label in np.unique(whole.labels[taken]):
        mine = taken & (whole.labels == label)
        assert thresholds[label] <= whole.confidence[mine].min()
        if not isinstance(selector, TopShare):
            assert thresholds[label] == pytest.approx(whole.confidence[mine].min(), abs=0)


@every_selector
def test_a_class_without_rows_and_a_single_row_are_no_special_case(selector):
    single = of_probs([[0.0, 1.0, 0.0]])
    floored = isinstance(selector, ClassRate)  # a share of one row, rounded down as published
    assert chosen(selector, single) == (set() if floored else {"0"})


@every_selector
def test_a_selector_survives_its_plain_form_and_is_frozen(selector):
    assert TypeAdapter(Selector).validate_python(selector.plain()) == selector
    with pytest.raises(ValidationError, match="frozen"):
        selector.kind = "other"


@every_selector
def test_fitting_leaves_the_sketch_as_it_was(selector):
    whole = sketch(pool(0, 20), pool_rows=20, seed=0)
    before = {k: v.copy() for k, v in whole.keys.items()}
    selector.fit(whole, labelled(), 0)
    assert all(np.array_equal(whole.keys[k], v) for k, v in before.items())


SCHEDULED: list[tuple[Callable[..., Selector], str, float, float]] = [
    (Threshold, "threshold", 0.5, 0.9),
    (TopShare, "share", 0.2, 1.0),
    (ClassShare, "share", 0.2, 1.0),
    (ClassTopK, "k", 1, 9),
    (OutOfFoldPrecision, "precision", 0.5, 0.9),
]


@pytest.mark.parametrize(("kind", "name", "start", "end"), SCHEDULED)
def test_a_schedule_is_resolved_before_a_selector_is_fitted(kind, name, start, end):
    moving = kind(**{name: Linear(start=start, end=end)})
    with pytest.raises(ValueError, match="at_round first"):
        fitted(moving, [pool(0, 20)])
    first, last = at_round(moving, 0, 3), at_round(moving, 2, 3)
    assert chosen(first, pool(0, 20)) == chosen(kind(**{name: start}), pool(0, 20))
    assert chosen(last, pool(0, 20)) == chosen(kind(**{name: end}), pool(0, 20))


GROWING = [
    [Threshold(threshold=t) for t in (1.0, 0.9, 0.6, 0.5, 0.0)],
    [TopShare(share=s) for s in (0.0, 0.05, 0.2, 0.5, 0.51, 1.0)],
    [ClassShare(share=s) for s in (0.0, 0.05, 0.2, 0.5, 0.51, 1.0)],
    [ClassTopK(k=k) for k in (1, 2, 5, 40)],
    [EvenShare(share=share) for share in (0.1, 0.4, 1.0)],
    [ClassTopK(k=5, least_confidence=c) for c in (1.0, 0.7, 0.0)],
    [ClassRate(alpha=a) for a in (0.1, 0.5, 2.0, 3.0, 100.0)],
]


@both_sketches
@pytest.mark.parametrize("growing", GROWING, ids=lambda g: g[0].kind)
@QUICK
@given(seed=st.integers(0, 999), num=st.integers(1, 40))
def test_asking_for_more_keeps_what_was_chosen(growing, coarse, seed, num):
    whole = pool(seed, num)
    found = [chosen(selector, whole, coarse=coarse) for selector in growing]
    for fewer, more in pairwise(found):
        assert fewer <= more


@pytest.mark.parametrize("selector", [s for s in EVERY if s.needs_labelled], ids=str)
def test_a_selector_that_needs_labelled_predictions_asks_for_them(selector):
    block = sketch(of_probs(P), pool_rows=10, seed=0)
    with pytest.raises(ValueError, match=f"{selector.kind} needs out-of-fold predictions"):
        selector.fit(block, Labelled(np.array([1, 1, 1])), 0)


def test_those_that_read_labelled_rows_out_of_fold_say_so():
    asking = {s.kind for s in EVERY if s.needs_labelled}
    assert asking == {"out_of_fold_precision", "relative_threshold", "loss_bound"}
