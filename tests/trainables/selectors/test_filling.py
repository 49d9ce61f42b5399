"""Rows that no class took go to classes that are short of rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.selectors.pools import QUICK, P, labelled, of_probs, part
from trainables.beliefs import Beliefs
from trainables.pseudo_labels import PseudoLabeller
from trainables.row_maps import Tilt
from trainables.selectors import filling
from trainables.selectors.filling import Block, Filling, candidates, fill, first_candidates
from trainables.selectors.fixed import ClassTopK, EvenShare
from trainables.selectors.rules import Rule
from trainables.selectors.sketch import sketch
from trainables.targets import TargetSpec
from trainables.weighting import Confidence, InverseClass, One, Weighting

TABLE = of_probs(P)


def drawn(seed: int, num: int, classes: int = 4) -> Beliefs:
    """Rows that are seldom predicted as the last classes."""
    probs = np.random.default_rng(seed).dirichlet(np.linspace(1.5, 0.2, classes), num)
    return of_probs(probs.tolist() or np.zeros((0, classes)), [f"row-{i}" for i in range(num)])


def filled(selector: ClassTopK | EvenShare, *shards: Beliefs, seed: int = 0) -> Rule:
    """The rule with its filling, found from shards as a selecting step does."""
    whole = sum(len(each) for each in shards)
    pool, *others = [sketch(each, pool_rows=whole, seed=seed) for each in shards]
    for other in others:
        pool = pool.merge(other)
    rule = selector.fit(pool, labelled(shards[0].num_classes), seed)
    needs = (selector.wanted(pool) - pool.reaching(rule.cuts, rule.least)).clip(min=0).tolist()

    def look(known: Filling, block: Block) -> np.ndarray:
        behind, found = replace(rule, filling=known), []
        for each in shards:
            free = each.usable() & (behind.classes(each) < 0)
            found.append(candidates(each, free, block, max(rule.least), seed))
        return first_candidates(np.concatenate(found), block)

    return replace(rule, filling=fill(needs, look))


def reference(beliefs: Beliefs, k: int) -> dict[str, int]:
    """The same by sorting whole columns, where no two probabilities are equal."""
    probs, found = np.exp(beliefs.log_probs), np.full(len(beliefs), -1)
    num = beliefs.num_classes
    for label in range(num):
        mine = np.flatnonzero(beliefs.labels == label)
        found[mine[np.argsort(-probs[mine, label])][:k]] = label
    for label in range(num):
        need = k - int((found == label).sum())
        rest = np.flatnonzero(found < 0)
        found[rest[np.argsort(-probs[rest, label])][: max(0, need)]] = label
    return {beliefs.example_ids[i]: int(found[i]) for i in np.flatnonzero(found >= 0)}


def taken(rule: Rule, *shards: Beliefs) -> dict[str, int]:
    return {
        name: label
        for each in shards
        for name, label in zip(each.example_ids, rule.classes(each).tolist(), strict=True)
        if label >= 0
    }


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (2, {"0": 0, "9": 0, "3": 1, "4": 1, "6": 2, "8": 2}),
        (3, {"0": 0, "9": 0, "1": 0, "3": 1, "4": 1, "2": 1, "6": 2, "8": 2, "7": 2}),
    ],
)
def test_filled_boards_have_their_golden_values(k, expected):
    assert taken(filled(ClassTopK(k=k, fill=True), TABLE), TABLE) == expected


@QUICK
@given(seed=st.integers(0, 999), k=st.integers(1, 40), shards=st.integers(1, 7))
def test_filling_from_shards_is_filling_from_the_whole(seed, k, shards):
    whole = drawn(seed, 60)
    owner = np.random.default_rng(seed).integers(0, shards, 60)
    parts = [part(whole, np.flatnonzero(owner == number)) for number in range(shards)]
    selector = ClassTopK(k=k, fill=True)
    expected = reference(whole, k)
    assert taken(filled(selector, whole), whole) == expected
    assert taken(filled(selector, *parts), *parts) == expected
    assert taken(filled(selector, *parts[::-1]), whole) == expected


def test_blocks_of_one_class_give_what_one_block_gives(monkeypatch):
    whole = drawn(3, 200, classes=6)
    at_once = filled(ClassTopK(k=30, fill=True), whole)
    assert sum(rows > 0 for rows in at_once.filling.rows) > 1
    monkeypatch.setattr(filling, "MOST_KEYS", 1)
    assert filled(ClassTopK(k=30, fill=True), whole) == at_once


def test_an_even_share_that_is_whole_takes_every_row():
    whole = drawn(1, 200)
    rule = filled(EvenShare(share=1.0, fill=True), whole)
    assert np.bincount(rule.classes(whole)).tolist() == [50] * 4
    assert not replace(rule, filling=None).accepts(whole).all()


def test_classes_that_have_their_rows_take_no_others():
    whole = drawn(2, 100)
    least = int(np.bincount(whole.labels, minlength=4).min())
    rule = filled(ClassTopK(k=least, fill=True), whole)
    assert rule.filling.rows == (0,) * 4
    assert (rule.classes(whole)[rule.accepts(whole)] == whole.labels[rule.accepts(whole)]).all()


def test_no_row_below_the_least_confidence_fills_a_class():
    whole = drawn(4, 100)
    rule = filled(ClassTopK(k=40, fill=True, least_confidence=0.3), whole)
    classes = rule.classes(whole)
    at = np.flatnonzero(classes >= 0)
    assert np.exp(whole.log_probs[at, classes[at]]).min() >= 0.3
    assert sum(rule.filling.rows) > 0
    assert np.bincount(classes[at], minlength=4).min() < 40, "a class stays short"


def test_no_class_takes_a_row_that_can_not_be_of_it():
    certain = of_probs([[1.0, 0.0, 0.0]] * 9 + [[0.6, 0.4, 0.0]])
    rule = filled(ClassTopK(k=3, fill=True), certain)
    assert rule.filling.rows == (0, 1, 0)
    assert rule.classes(certain)[9] == 1


def test_rows_that_are_no_numbers_or_held_back_fill_nothing():
    whole = drawn(5, 60)
    broken = whole.log_probs.copy()
    broken[7] = np.nan
    held = np.arange(60) != 9
    odd = replace(whole, log_probs=broken, eligible=held)
    rest = part(whole, [i for i in range(60) if i not in (7, 9)])
    selector = ClassTopK(k=20, fill=True)
    assert taken(filled(selector, odd), odd) == taken(filled(selector, rest), rest)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("reads", ["calibrated", "teacher"])
def test_a_row_that_fills_a_class_is_labelled_and_weighed_as_one_of_it(kind, reads):
    rule = filled(ClassTopK(k=3, fill=True), TABLE)
    spec = TargetSpec(kind=kind, reads=reads, weight=Confidence())
    weights = spec.weight.fit(sketch(TABLE, pool_rows=10, seed=0), rule)
    found = PseudoLabeller(Tilt(), rule, weights, spec).of(TABLE)
    assert found.labels[[2, 7]].tolist() == [1, 2]
    assert found.confidence[[2, 7]] == pytest.approx([0.40, 0.44])
    assert found.weights[[2, 7]] == pytest.approx([0.40, 0.44])
    target = [0.0, 1.0, 0.0] if kind == "hard" else P[2]
    assert found.targets[2] == pytest.approx(target, abs=1e-6)
    assert not found.accepted[5]


def weigh(weighting: Weighting, rule: Rule) -> tuple[float, ...]:
    return weighting.fit(sketch(TABLE, pool_rows=10, seed=0), rule).by_class


def test_rows_that_fill_a_class_count_as_rows_of_it():
    few = filled(ClassTopK(k=3, fill=True), TABLE)
    assert weigh(InverseClass(), few) == weigh(One(), few) == (1.0,) * 3
    without = replace(few, filling=None)
    assert weigh(InverseClass(), without) == pytest.approx((2 / 3, 1, 1))


def test_the_threshold_of_a_class_that_is_filled_is_that_of_its_last_row():
    found = filled(ClassTopK(k=3, fill=True), TABLE).thresholds()
    assert found == pytest.approx([0.70, 0.40, 0.44])
