"""Running statistics: those of the table with a memory of zero, golden values with a longer one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables import test_calibrators as calibrating
from tests.trainables import test_weighting as weighing
from tests.trainables.selectors.pools import EVERY, P, distinct, labelled, of_probs, part
from trainables.beliefs import Beliefs
from trainables.calibrators import fit_chain
from trainables.pool_mean import PoolMean, pool_mean
from trainables.pseudo_labels import PseudoLabeller, StepRows, fit_in_step
from trainables.row_maps import Tilt, calibrated
from trainables.selectors.adaptive import FlexThreshold, FreeThreshold
from trainables.selectors.fixed import ClassShare, Everything, Threshold
from trainables.selectors.library import Selector
from trainables.selectors.running import Batch, Memory, Running
from trainables.selectors.sketch import sketch
from trainables.targets import TargetSpec
from trainables.weighting import Gaussian
from trainables.worker import Worker

QUICK = settings(deadline=None, derandomize=True, max_examples=25)
TABLE = of_probs(P)
NAN = [np.nan] * 3
both_beginnings = pytest.mark.parametrize("begin", ["first_batch", "uniform"])
IN_STEP = [*EVERY, FlexThreshold(count_unsure=False)]
FORGETFUL = [s for s in IN_STEP if not isinstance(s, FlexThreshold)]
"""Of every row FlexThreshold keeps the last sure label, however short the memory of the means."""


def batch_of(beliefs: Beliefs, places: np.ndarray | None = None) -> Batch:
    places = np.arange(len(beliefs)) if places is None else np.asarray(places)
    labels = np.where(beliefs.usable(), beliefs.labels, -1)
    return Batch(places, labels, beliefs.confidence, pool_mean(beliefs))


def seen(
    *batches: Beliefs, decay: float = 0.9, begin: str = "first_batch", sure_from: float | None = 0.8
) -> Running:
    """Statistics that have taken in these batches, all of the same pool rows."""
    rows = max(len(batch) for batch in batches)
    running = Running(3, Memory(decay=decay, begin=begin), rows)
    for batch in batches:
        running.see(batch_of(batch), sure_from)
    return running


def in_step(selector: Selector, rows: Beliefs, memory: Memory, targets=None) -> PseudoLabeller:
    """The labeller of a step that sees all of these rows at once."""
    running = Running(rows.num_classes, memory, len(rows))
    step = StepRows(rows, np.arange(len(rows)))
    targets = targets or TargetSpec()
    return fit_in_step((), selector, targets, step, running, labelled(), Worker()).labeller


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype and np.array_equal(first[k], second[k]) for k in first
    )


# ---- with a memory of zero the step's statistics are the table's


@both_beginnings
@pytest.mark.parametrize("selector", IN_STEP, ids=str)
@QUICK
@given(seed=st.integers(0, 99), num=st.integers(1, 60))
def test_without_a_memory_the_whole_pool_as_one_batch_gives_the_rows_of_the_table(
    selector, begin, seed, num
):
    rows = distinct(num, seed=seed)
    table = selector.fit(sketch(rows, pool_rows=num, seed=0), labelled(), 0)
    found = in_step(selector, rows, Memory(decay=0, begin=begin)).rule
    assert found.accepts(rows).tolist() == table.accepts(rows).tolist()


@both_beginnings
@pytest.mark.parametrize("weighting", weighing.EVERY, ids=str)
@QUICK
@given(seed=st.integers(0, 99), num=st.integers(1, 60))
def test_without_a_memory_weights_are_those_of_the_table(weighting, begin, seed, num):
    rows, selector = distinct(num, seed=seed), Threshold(threshold=0.6)
    block = sketch(rows, pool_rows=num, seed=0)
    table = weighting.fit(block, selector.fit(block, labelled(), 0))
    found = in_step(selector, rows, Memory(decay=0, begin=begin), TargetSpec(weight=weighting))
    ours, theirs = (w.of(rows.labels, rows.confidence) for w in (found.weights, table))
    assert ours == pytest.approx(theirs, rel=1e-5)


@both_beginnings
@pytest.mark.parametrize("second", calibrating.EVERY, ids=str)
@pytest.mark.parametrize("first", calibrating.EVERY, ids=str)
def test_without_a_memory_a_chain_of_calibrators_is_that_of_the_table(first, second, begin):
    rows, chain = distinct(30), (first, second)
    running = Running(3, Memory(decay=0, begin=begin), 30, stages=2)

    def of_table(stage: int, tilt: Tilt) -> np.ndarray:
        return pool_mean(calibrated(tilt, rows)).shares()

    def of_step(stage: int, tilt: Tilt) -> np.ndarray:
        return running.see_mean(stage, pool_mean(calibrated(tilt, rows)))

    table = fit_chain(chain, of_table, labelled())
    for _ in range(2):  # without a memory the first time leaves no trace
        assert fit_chain(chain, of_step, labelled()) == table


@pytest.mark.parametrize("selector", FORGETFUL, ids=str)
def test_without_a_memory_only_the_last_batch_counts(selector):
    first, last = distinct(40, seed=1), distinct(40, seed=2)
    running = seen(first, last, decay=0)
    alone = seen(last, decay=0)
    assert selector.fit(running, labelled(), 0) == selector.fit(alone, labelled(), 0)


# ---- golden values of one step


def test_one_step_of_freematch_has_its_golden_values():
    running = seen(TABLE, begin="uniform")
    assert running.mean_confidence() == pytest.approx(0.3686, abs=1e-6)
    assert running.shares() == pytest.approx([0.3456, 0.3281, 0.3263], abs=1e-6)
    rule = FreeThreshold().fit(running, labelled(), 0)
    assert rule.least == pytest.approx((0.3686, 0.349935, 0.348016), abs=1e-6)
    assert np.flatnonzero(~rule.accepts(TABLE)).tolist() == [5]


def test_one_step_of_softmatch_has_its_golden_values():
    running = seen(TABLE, begin="uniform")
    # the table's confidences have mean 0.686 and an unbiased variance of 0.35784 / 9
    assert running.confidence_variance() == pytest.approx(0.9 + 0.1 * 0.03976, abs=1e-6)
    weights = Gaussian(num_sigma=2).fit(running, Everything().fit(running, labelled(), 0))
    assert weights.centre == pytest.approx(0.3686, abs=1e-6)
    assert weights.spread == pytest.approx(0.475388, abs=1e-5)


def test_one_step_moves_the_shares_of_predicted_classes():
    running = seen(TABLE, begin="uniform")
    assert running.label_shares() == pytest.approx([0.9 / 3 + 0.06, 0.9 / 3 + 0.02, 0.32])


def test_means_that_begin_with_the_first_batch_are_that_batch_and_then_move():
    first, second = of_probs([[0.7, 0.2, 0.1]] * 4), of_probs([[0.1, 0.1, 0.8]] * 4)
    once, twice = seen(first), seen(first, second)
    assert once.shares() == pytest.approx([0.7, 0.2, 0.1], abs=1e-6)
    assert once.mean_confidence() == pytest.approx(0.7)
    # weights 0.09 and 0.1 of the two batches, normalised
    old, new = 0.09 / 0.19, 0.1 / 0.19
    assert twice.mean_confidence() == pytest.approx(old * 0.7 + new * 0.8)
    assert twice.shares()[0] == pytest.approx(old * 0.7 + new * 0.1, abs=1e-6)
    assert twice.label_shares() == pytest.approx([old, 0, new])


def test_after_a_thousand_batches_means_are_what_adding_up_anew_gives():
    batches = [distinct(10, seed=seed) for seed in range(1000)]
    running = seen(*batches, decay=0.99)
    weights = 0.99 ** np.arange(999, -1, -1)
    confidence = np.stack([b.confidence for b in batches]).astype(np.float64)
    probs = np.stack([np.exp(b.log_probs.astype(np.float64)).mean(axis=0) for b in batches])
    labels = np.stack([np.bincount(b.labels, minlength=3) / 10 for b in batches])

    def anew(values: np.ndarray) -> np.ndarray:
        return np.average(values, axis=0, weights=weights)

    assert running.mean_confidence() == pytest.approx(anew(confidence.mean(axis=1)), rel=1e-9)
    variances = confidence.var(axis=1, ddof=1)
    assert running.confidence_variance() == pytest.approx(anew(variances), rel=1e-9)
    assert running.label_shares() == pytest.approx(anew(labels), rel=1e-9)
    assert running.shares() == pytest.approx(anew(probs), rel=1e-6)  # stored as whole numbers


def test_a_memory_next_to_one_stands_where_it_began():
    """After 1,000 batches, which come in with a weight of 1e-9 each."""
    sure = of_probs([[0.98, 0.01, 0.01]] * 10)
    running = seen(*[sure] * 1000, decay=1 - 1e-9, begin="uniform")
    assert running.shares() == pytest.approx([1 / 3] * 3, abs=2e-6)
    assert running.label_shares() == pytest.approx([1 / 3] * 3, abs=2e-6)
    assert running.mean_confidence() == pytest.approx(1 / 3, abs=2e-6)
    assert running.confidence_variance() == pytest.approx(1, abs=2e-6)


def test_before_the_first_batch_nothing_is_known():
    first = Running(3, Memory(begin="first_batch"), 5)
    assert first.shares() == pytest.approx([1 / 3] * 3)
    assert first.mean_confidence() == first.confidence_variance() == 0
    assert first.class_rows().tolist() == [0, 0, 0]
    assert first.sure_rows(0.5) == (pytest.approx([0, 0, 0]), 5)
    uniform = Running(3, Memory(begin="uniform"), 5)
    assert uniform.mean_confidence() == pytest.approx(1 / 3)
    assert uniform.confidence_variance() == 1


def test_each_calibrator_of_a_chain_has_a_mean_of_its_own():
    running = Running(3, Memory(decay=0.5, begin="uniform"), 10, stages=2)
    mine = running.see_mean(0, pool_mean(of_probs([[1.0, 0.0, 0.0]])))
    assert mine == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert running.see_mean(1, pool_mean(of_probs([[0.0, 1.0, 0.0]])))[1] == pytest.approx(2 / 3)
    assert running.shares() == pytest.approx([1 / 3] * 3)
    nothing = running.see_mean(0, PoolMean(0, np.zeros(3, np.int64)))
    assert nothing == pytest.approx(mine), "a batch without usable rows moves nothing"


# ---- last sure labels


def test_a_row_keeps_its_last_sure_label_until_it_is_sure_of_another():
    sure, unsure = [0.9, 0.05, 0.05], [0.5, 0.4, 0.1]
    other = [0.05, 0.9, 0.05]
    running = Running(3, Memory(), 4)
    running.see(batch_of(of_probs([sure, sure, unsure, other])), 0.8)
    assert running.sure_rows(0.8) == (pytest.approx([2, 1, 0]), 1)
    running.see(batch_of(of_probs([unsure, other, sure])), 0.8)
    # row 0 was sure and stays counted, row 1 changed its class, row 2 became sure
    assert running.sure_rows(0.8) == (pytest.approx([2, 2, 0]), 0)
    sure, unsure = running.sure_rows(0.99)
    assert (sure.sum(), unsure) == (4, 0), "rows count by the bound that held when they were seen"


def test_a_sure_confidence_includes_equality_as_it_is_stored():
    running = Running(3, Memory(), 1)
    running.see(batch_of(of_probs([[0.8, 0.1, 0.1]])), 0.8)
    assert running.sure_rows(0.8)[0].tolist() == [1, 0, 0]


def test_without_a_bound_no_row_is_noted_as_sure():
    assert seen(TABLE, sure_from=None).sure_rows(0.0) == (pytest.approx([0, 0, 0]), 10)


def test_pool_rows_that_were_never_seen_are_unsure():
    running = Running(3, Memory(), 100)
    running.see(batch_of(TABLE, places=np.arange(50, 60)), 0.8)
    sure, unsure = running.sure_rows(0.8)
    assert sure.tolist() == [2, 1, 1]
    assert unsure == 96


# ---- rows that are no numbers, order, ranks


def test_rows_of_nan_are_never_counted():
    whole, broken = (
        Beliefs.of_log_probs([""] * len(rows), of_probs(rows).log_probs)
        for rows in (P, [*P, NAN, NAN])
    )
    first, second = seen(whole), seen(broken)
    assert second.sure_rows(0.8) == (pytest.approx([2, 1, 1]), 12 - 4)
    ours, theirs = first.arrays(), second.arrays()
    for name in ("weight", "means", "label_shares", "moments", "labels", "confidence"):
        assert np.array_equal(ours[name], theirs[name]), name


@both_beginnings
def test_a_batch_of_nothing_but_nan_changes_nothing(begin):
    running = seen(TABLE, begin=begin)
    before = {name: value.copy() for name, value in running.arrays().items()}
    running.see(batch_of(Beliefs.of_log_probs([""], of_probs([NAN]).log_probs)), 0.0)
    assert same(running.arrays(), before)


@both_beginnings
@QUICK
@given(seed=st.integers(0, 99))
def test_the_order_of_rows_within_a_batch_does_not_matter(begin, seed):
    rows = distinct(40, seed=seed)
    turned = part(rows, np.random.default_rng(seed).permutation(40))
    first, second = seen(rows, begin=begin), seen(turned, begin=begin)
    assert first.shares().tolist() == second.shares().tolist()
    assert first.label_shares().tolist() == second.label_shares().tolist()
    assert first.mean_confidence() == pytest.approx(second.mean_confidence(), rel=1e-12)
    assert first.confidence_variance() == pytest.approx(second.confidence_variance(), rel=1e-9)
    for selector in (ClassShare(share=0.3), FreeThreshold()):
        ours, theirs = (selector.fit(each, labelled(), 0) for each in (first, second))
        assert ours.cuts == theirs.cuts
        assert ours.least == pytest.approx(theirs.least, rel=1e-6)


@pytest.mark.parametrize(("decay", "batches"), [(0.0, 1), (0.5, 2), (0.75, 4), (0.9, 10)])
def test_ranks_are_taken_among_the_batches_that_the_memory_reaches(decay, batches):
    running = Running(3, Memory(decay=decay), 10)
    for step in range(1, 14):
        running.see(batch_of(TABLE), None)
        assert running.class_rows().sum() == 10 * min(step, batches)


def test_ranks_forget_the_oldest_batch_first():
    old, new = of_probs([[0.9, 0.05, 0.05]] * 4), of_probs([[0.1, 0.3, 0.6]] * 4)
    running = seen(old, old, new, decay=0.5)
    assert running.class_rows().tolist() == [4, 0, 4]
    assert running.quantile(0.0) == pytest.approx(0.6)
    scores, counts = running.confidences(2)
    assert (scores.tolist(), counts.tolist()) == (pytest.approx([0.6]), [4])


def test_no_more_recent_rows_are_kept_than_the_limit(monkeypatch):
    from trainables.selectors import running as module

    monkeypatch.setattr(module, "MOST_RECENT_ROWS", 25)
    assert seen(*[TABLE] * 5).class_rows().sum() == 25


# ---- checkpoints


@both_beginnings
def test_restored_statistics_go_on_bit_for_bit(begin):
    first, second = seen(distinct(40), begin=begin), Running(3, Memory(decay=0.9, begin=begin), 40)
    kept = {name: value.copy() for name, value in first.arrays().items()}
    second.class_rows()  # what was looked up before is forgotten
    second.restore(kept)
    assert same(first.arrays(), second.arrays())
    assert first.class_rows().tolist() == second.class_rows().tolist()
    for running in (first, second):
        running.see(batch_of(distinct(40, seed=3)), 0.7)
    assert same(first.arrays(), second.arrays())
    assert not same(first.arrays(), kept)


def test_restored_statistics_share_no_memory_with_what_was_given():
    first, second = seen(TABLE), Running(3, Memory(decay=0.9), 10)
    second.restore(first.arrays())
    before = {name: value.copy() for name, value in second.arrays().items()}
    first.see(batch_of(distinct(10)), 0.0)
    assert same(second.arrays(), before)
