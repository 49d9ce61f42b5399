"""Fidelity zero: what a rule would accept is counted on a sketch, and judged by held-out rows."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ConfigError
from orchestrator.recipe import Recipe, RoundPolicy
from orchestrator.sweep.screening import (
    Evidence,
    Screened,
    best,
    estimated_precision,
    screen,
)
from trainables.beliefs import Beliefs
from trainables.filters import Confidence
from trainables.schedules import Linear, Stepwise
from trainables.selectors import sketch as sketches
from trainables.selectors.adaptive import (
    ClassRate,
    EqualRate,
    FlexThreshold,
    FreeThreshold,
    LossBound,
    MixtureThreshold,
    OutOfFoldPrecision,
    RelativeThreshold,
)
from trainables.selectors.fixed import (
    ClassShare,
    ClassTopK,
    EvenShare,
    Everything,
    Threshold,
    TopShare,
)
from trainables.selectors.library import Selector
from trainables.selectors.rules import Labelled, Rule
from trainables.selectors.sketch import Sketch, sketch

QUICK = settings(deadline=None, derandomize=True, max_examples=40)
EVERY = (
    Everything(),
    Threshold(threshold=0.6),
    Threshold(threshold=0.7),
    TopShare(share=0.0),
    TopShare(share=0.3),
    TopShare(share=0.77),
    TopShare(share=1.0),
    ClassShare(share=0.4),
    ClassShare(share=0.7, least_confidence=0.7),
    ClassTopK(k=3),
    EvenShare(share=0.8),
    ClassTopK(k=20, least_confidence=0.7),
    OutOfFoldPrecision(precision=0.7, least_support=2),
    FlexThreshold(threshold=0.8),
    FreeThreshold(),
    RelativeThreshold(),
    ClassRate(),
    EqualRate(threshold=0.7),
    LossBound(),
    MixtureThreshold(least_rows=4),
)
every_selector = pytest.mark.parametrize("selector", EVERY, ids=str)


def believed(confidence, labels, classes: int = 3) -> Beliefs:
    """Rows of these confidences and classes."""
    confidence, labels = np.asarray(confidence, np.float32), np.asarray(labels, np.int64)
    log_probs = np.full((len(labels), classes), -9.0, np.float32)
    log_probs[np.arange(len(labels)), labels] = np.log(confidence)
    return Beliefs([f"row-{i}" for i in range(len(labels))], labels, confidence, log_probs)


def pool(seed: int, num: int, classes: int = 3) -> Beliefs:
    """Rows with many equal confidences, some of them those that selectors name."""
    stream = np.random.default_rng(seed)
    levels = np.float32([0.4, 0.6, 0.7, 0.7001, 0.9, 0.99999, 1.0])
    return believed(stream.choice(levels, num), stream.integers(0, classes, num), classes)


def spread(seed: int, num: int, classes: int = 3) -> Beliefs:
    """Rows of all confidences."""
    stream = np.random.default_rng(seed)
    return believed(stream.uniform(0.35, 1, num), stream.integers(0, classes, num), classes)


def sketched(rows: Beliefs, *, coarse: bool) -> Sketch:
    return sketch(rows, pool_rows=sketches.EXACT_ROWS + coarse, seed=0)


def labelled(classes: int = 3) -> Labelled:
    held = spread(99, 30, classes)
    truth = np.where(np.arange(30) % 4 == 0, (held.labels + 1) % classes, held.labels)
    return Labelled(np.bincount(truth, minlength=classes), held, truth)


def counted(rows: Beliefs, taken: np.ndarray) -> list[int]:
    return np.bincount(rows.labels[taken], minlength=rows.num_classes).tolist()


def evidence(rows: Beliefs, held: Beliefs, truth) -> Evidence:
    truth = np.asarray(truth, np.int64)
    known = Labelled(np.bincount(truth, minlength=rows.num_classes), held, truth)
    return Evidence(sketched(rows, coarse=False), held, truth, known, seed=0)


# ---- what a rule accepts


def test_every_selector_has_an_example():
    every = get_args(get_args(Selector)[0])
    assert {type(s) for s in EVERY} == {kind for kind in every if not kind.needs_sample}


@every_selector
@pytest.mark.parametrize("make", [pool, spread])
@QUICK
@given(seed=st.integers(0, 999), num=st.integers(0, 80))
def test_counting_on_a_sketch_is_counting_the_accepted_rows(selector, make, seed, num):
    rows = make(seed, num)
    merged = sketched(rows, coarse=False)
    rule = selector.fit(merged, labelled(), 0)
    assert merged.reaching(rule.cuts, rule.least).tolist() == counted(rows, rule.accepts(rows))


@every_selector
@pytest.mark.parametrize("make", [pool, spread])
@QUICK
@given(seed=st.integers(0, 999), num=st.integers(0, 80))
def test_counting_on_a_coarse_sketch_misses_at_most_one_key_at_the_least_confidence(
    selector, make, seed, num
):
    """A coarse key stands for confidences within 2^-14, so rows that near a bound may miss."""
    rows = make(seed, num)
    merged = sketched(rows, coarse=True)
    rule = selector.fit(merged, labelled(), 0)
    found, taken = merged.reaching(rule.cuts, rule.least), rule.accepts(rows)
    sure = taken & (rows.confidence >= np.array(rule.least)[rows.labels] * (1 + 2.0**-13))
    assert (found <= counted(rows, taken)).all()
    assert (found >= counted(rows, sure)).all()
    if not any(rule.least):
        assert found.tolist() == counted(rows, taken)


def test_a_row_of_nan_is_not_counted():
    rows = pool(0, 20)
    rows.log_probs[3] = np.nan
    merged = sketched(rows, coarse=False)
    rule = Everything().fit(merged, labelled(), 0)
    assert merged.reaching(rule.cuts, rule.least).sum() == 19


def test_a_class_without_a_row_counts_none():
    rows = believed([0.9, 0.8], [0, 2])
    merged = sketched(rows, coarse=False)
    rule = Everything().fit(merged, labelled(), 0)
    assert merged.reaching(rule.cuts, rule.least).tolist() == [1, 0, 1]


# ---- how right they may be


def rule_from(least: float, classes: int = 2) -> Rule:
    return Rule((0,) * classes, (least,) * classes, coarse=False, seed=0)


def test_precision_is_estimated_by_class_and_drawn_to_the_whole_by_hand():
    held = believed([0.9, 0.9, 0.9, 0.8, 0.8, 0.5], [0, 0, 0, 1, 1, 1], classes=2)
    truth = [0, 0, 1, 1, 1, 0]
    given_rows = evidence(held, held, truth)
    # from 0.6 on: class 0 is right in 2 of 3, class 1 in 2 of 2, the whole (4 + 1) / (5 + 2)
    whole = 5 / 7
    zero, one = (2 + whole) / (3 + 1), (2 + whole) / (2 + 1)
    found = estimated_precision(given_rows, rule_from(0.6), np.array([30, 10]))
    assert found == pytest.approx((30 * zero + 10 * one) / 40)


def test_a_class_without_held_out_rows_has_the_precision_of_the_whole():
    held = believed([0.9, 0.9, 0.9], [0, 0, 0], classes=2)
    given_rows = evidence(held, held, [0, 0, 0])
    found = estimated_precision(given_rows, rule_from(0.5), np.array([0, 7]))
    assert found == pytest.approx(4 / 5)


@pytest.mark.parametrize("coarse", [False, True])
def test_a_cut_within_rows_of_one_confidence_takes_all_held_out_rows_of_it(coarse):
    """The hash that splits equal pool rows says nothing of other rows."""
    rows = believed(np.full(40, 0.75), np.zeros(40), classes=2)
    merged = sketched(rows, coarse=coarse)
    rule = ClassTopK(k=3).fit(merged, labelled(2), 0)
    held = believed(np.full(10, 0.75), np.zeros(10), classes=2)
    truth = np.array([0] * 8 + [1] * 2)
    known = Evidence(merged, held, truth, Labelled(np.array([8, 2])), 0)
    found = estimated_precision(known, rule, np.array([3, 0]))
    assert found == pytest.approx((8 + 9 / 12) / 11)


# ---- the score


def recipe(selector: Selector, rounds: int = 2) -> Recipe:
    return Recipe(selector=selector, policy=RoundPolicy(num_rounds=rounds))


def even_pool(right: float = 1.0) -> Evidence:
    """100 rows of four classes, all alike; of as many held-out ones this share is right."""
    labels = np.arange(100) % 4
    rows = believed(np.linspace(0.5, 0.99, 100), labels, classes=4)
    truth = np.where(np.arange(100) < 100 * right, labels, (labels + 1) % 4)
    return evidence(rows, rows, truth)


def test_a_selection_alike_over_all_classes_has_balance_one():
    found = screen(recipe(Everything()), even_pool())
    assert (found.coverage, found.balance) == (1.0, pytest.approx(1.0))
    assert found.precision > 0.95
    assert found.score == pytest.approx(((4 * found.precision - 1) / 3) ** 2)


def test_one_class_alone_has_the_least_balance():
    rows = believed(np.full(30, 0.9), np.zeros(30), classes=3)
    assert screen(recipe(Everything()), evidence(rows, rows, np.zeros(30))).balance == (
        pytest.approx(1 / 3)
    )


def test_nothing_accepted_scores_nothing():
    found = screen(recipe(Threshold(threshold=1.0)), even_pool())
    assert found == Screened(score=0, coverage=0, precision=0, balance=0)


def test_labels_no_better_than_chance_score_nothing():
    # a quarter of four classes is chance
    found = screen(recipe(Everything()), even_pool(right=0.2))
    assert (found.score, found.coverage) == (0.0, 1.0)


def test_the_score_is_the_mean_over_the_rounds_that_a_student_trains_on():
    given_rows = even_pool()
    moving = screen(recipe(ClassShare(share=Stepwise(values=(0.2, 0.6))), 3), given_rows)
    alone = [screen(recipe(ClassShare(share=share)), given_rows) for share in (0.2, 0.6)]
    assert moving.score == pytest.approx(np.mean([found.score for found in alone]))
    assert moving.coverage == pytest.approx(0.4)


def test_a_schedule_reaches_its_end_at_the_last_selection_that_is_trained_on():
    share = Linear(start=0.2, end=1.0)
    found = screen(recipe(ClassShare(share=share), 3), even_pool())
    assert found.coverage == pytest.approx((0.2 + 1.0) / 2)


def test_a_run_of_one_round_is_judged_by_its_only_selection():
    assert screen(recipe(ClassShare(share=0.4), 1), even_pool()).coverage == pytest.approx(0.4)


def test_the_best_come_first_and_of_equal_ones_the_first_drawn():
    scores = [0.2, 0.5, 0.1, 0.5, 0.4]
    results = [Screened(score=s, coverage=1, precision=1, balance=1) for s in scores]
    assert best(results, 3) == [1, 3, 4]
    assert best(results, 9) == [1, 3, 4, 0, 2]
    assert best([], 3) == []


def test_candidates_without_their_evidence_are_refused():
    given_rows = even_pool()
    without = Labelled(given_rows.labelled.class_rows)
    bare = Evidence(given_rows.sketch, given_rows.held_out, given_rows.held_out_labels, without, 0)
    made = Recipe.model_validate(
        {"selector": {"kind": "out_of_fold_precision"}, "labelling": {"out_of_fold": 3}}
    )
    assert screen(made, given_rows).score > 0
    with pytest.raises(ValueError, match="needs out-of-fold predictions"):
        screen(made, bare)
    filtered = made.model_copy(update={"filters": (Confidence(),)})
    with pytest.raises(ConfigError, match="can't judge a selector that fills classes"):
        screen(Recipe(selector=ClassTopK(fill=True)), given_rows)
    with pytest.raises(ConfigError, match="can't judge behind filters"):
        screen(filtered, given_rows)
