"""Calibrators: golden values, identities, and that a chain is one map."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.selectors.pools import P, labelled, of_probs, part, pool
from trainables.calibrators import (
    GUARD,
    AdjustLogits,
    Align,
    Calibrator,
    Sharpen,
    Temperature,
    Transport,
    estimated_prior,
    fit_chain,
    solve_prior,
)
from trainables.pool_mean import NOTHING, pool_mean
from trainables.row_maps import Tilt, calibrated, prior_of, temperature_of
from trainables.selectors.rules import Labelled

TABLE = of_probs(P)
MEAN = pool_mean(TABLE).shares()
FREQUENT = Labelled(np.array([6, 3, 1]))
EVERY = (
    Temperature(),
    Sharpen(temperature=0.5),
    Align(),
    Align(target="labelled", power=0.5),
    Align(target="estimated"),
    AdjustLogits(strength=0.4),
)
every_calibrator = pytest.mark.parametrize("calibrator", EVERY, ids=str)
QUICK = settings(deadline=None, derandomize=True, max_examples=30)


def probs(tilt: Tilt) -> np.ndarray:
    return np.exp(tilt.applied(TABLE.log_probs).astype(np.float64))


def test_every_calibrator_has_an_example():
    assert {type(c) for c in EVERY} == set(get_args(get_args(Calibrator)[0])) - {Transport}


def test_aligning_to_equal_shares_has_its_golden_confidences():
    expected = [0.843708, 0.584337, 0.504829, 0.880788, 0.672862]
    expected += [0.395229, 0.825398, 0.550756, 0.770123, 0.934641]
    tilted = calibrated(Align().fit(MEAN, Tilt(), FREQUENT), TABLE)
    assert tilted.confidence == pytest.approx(expected, abs=1e-6)
    assert tilted.labels[5] == 2, "row 5 goes to the class that is predicted least"


def test_aligning_to_the_labelled_rows_has_its_golden_row():
    found = probs(Align(target="labelled").fit(MEAN, Tilt(), FREQUENT))
    assert found[1] == pytest.approx([0.78548, 0.182094, 0.032426], abs=1e-5)
    assert found.argmax(1).tolist() == [0, 0, 0, 1, 1, 0, 2, 0, 2, 0]


def test_half_a_power_of_the_labelled_shares_has_its_golden_row():
    tilt = Align(target="labelled", power=0.5).fit(MEAN, Tilt(), FREQUENT)
    found, target = probs(tilt), np.exp(tilt.shift) * (MEAN + GUARD) - GUARD
    assert target == pytest.approx([0.472734, 0.334273, 0.192993], abs=1e-6)
    assert found[1] == pytest.approx([0.699805, 0.229431, 0.070764], abs=1e-5)
    assert found[5].argmax() == 1


def test_sharpening_has_its_golden_rows():
    tilt = Sharpen(temperature=0.5).fit(MEAN, Tilt(), FREQUENT)
    assert probs(tilt)[1] == pytest.approx([0.907407, 0.074074, 0.018519], abs=1e-6)
    tilt = Sharpen(temperature=0.4).fit(MEAN, Tilt(), FREQUENT)
    assert probs(tilt)[0] == pytest.approx([0.998438, 0.001146, 0.000416], abs=1e-6)


def test_the_estimated_balance_has_its_golden_value():
    confusion = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]]).T
    found = solve_prior(confusion, np.array([0.456, 0.281, 0.263]))
    assert found == pytest.approx([0.476944, 0.301667, 0.221389], abs=1e-6)


def test_an_ill_posed_confusion_still_gives_shares():
    found = solve_prior(np.full((3, 3), 1 / 3), np.array([0.5, 0.3, 0.2]))
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()


@pytest.mark.parametrize(
    "calibrator", [Sharpen(temperature=1), AdjustLogits(strength=0)], ids=["sharpen", "adjust"]
)
def test_a_calibrator_at_its_neutral_value_changes_nothing(calibrator):
    tilt = calibrator.fit(MEAN, Tilt(), FREQUENT)
    assert probs(tilt) == pytest.approx(np.array(P), abs=1e-6)


def test_aligning_to_ones_own_mean_changes_nothing():
    own = Labelled(np.rint(MEAN * 1e6).astype(np.int64))
    assert probs(Align(target="labelled").fit(MEAN, Tilt(), own)) == pytest.approx(
        np.array(P), abs=1e-4
    )


def test_the_temperature_undoes_one_that_was_put_in():
    stream = np.random.default_rng(0)
    logits = stream.normal(size=(4000, 3)) * 2
    truth = np.array([stream.choice(3, p=row) for row in softmax(logits)])
    known = Labelled(np.bincount(truth), of_probs(softmax(logits * 2.5)), truth)
    assert Temperature().fit(MEAN, Tilt(), known).power == pytest.approx(1 / 2.5, rel=0.05)


def test_few_labelled_rows_leave_the_temperature_alone():
    known = labelled()
    few = Labelled(known.class_rows, part(known.beliefs, range(14)), known.labels[:14])
    assert Temperature().fit(MEAN, Tilt(), few) == Tilt()
    assert temperature_of(Temperature().fit(MEAN, Tilt(), few)) == 1


@pytest.mark.parametrize("after", [Sharpen(), Align(), Align(target="estimated")])
def test_a_fitted_temperature_is_told_whatever_stands_around_it(after):
    chain, known = [Align(), Temperature(), after], labelled()
    whole = fit_chain(chain, lambda _, by: np.exp(by.applied(TABLE.log_probs)).mean(0), known)
    alone = Temperature().fit(MEAN, fit_chain(chain[:1], lambda *_: MEAN, known), known)
    assert temperature_of(whole) == pytest.approx(1 / alone.power, rel=1e-3)
    assert temperature_of(Sharpen().fit(MEAN, Tilt(), FREQUENT)) is None


def test_an_estimated_balance_is_told_and_others_are_not():
    estimated = Align(target="estimated").fit(MEAN, Tilt(), labelled())
    assert prior_of(estimated) == pytest.approx(estimated_prior(Tilt(), labelled(), MEAN))
    assert prior_of(estimated.then(Tilt(power=2))) == prior_of(estimated)
    assert prior_of(Align().fit(MEAN, Tilt(), FREQUENT)) == ()
    refined = Transport(plan="refine", target="estimated")
    rows = TABLE.log_probs.astype(np.float64)
    assert sum(prior_of(refined.fit_rows(rows, Tilt(), labelled()))) == pytest.approx(1)


@every_calibrator
@QUICK
@given(seed=st.integers(0, 99), shards=st.integers(1, 7))
def test_the_mean_over_shards_is_the_mean_over_the_whole(calibrator, seed, shards):
    rows = pool(seed, 30)
    merged = NOTHING
    for block in np.array_split(np.random.default_rng(seed).permutation(30), shards):
        merged = merged.merge(pool_mean(part(rows, block)))
    whole = calibrator.fit(pool_mean(rows).shares(), Tilt(), labelled())
    assert calibrator.fit(merged.shares(), Tilt(), labelled()) == whole


@every_calibrator
def test_a_chain_of_two_is_one_map(calibrator):
    first = calibrator.fit(MEAN, Tilt(), labelled())
    for other in EVERY:
        second = other.fit(MEAN, first, labelled())
        apart = second.applied(first.applied(TABLE.log_probs))
        assert first.then(second).applied(TABLE.log_probs) == pytest.approx(apart, abs=1e-5)


@every_calibrator
def test_rows_still_sum_to_one_and_certain_rows_stay_certain(calibrator):
    certain = of_probs([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
    tilt = calibrator.fit(pool_mean(certain).shares(), Tilt(), labelled())
    found = np.exp(tilt.applied(certain.log_probs).astype(np.float64))
    assert found.sum(1) == pytest.approx([1, 1, 1], abs=1e-6)
    assert found[0, 0] == pytest.approx(1)


@every_calibrator
def test_a_row_of_nan_moves_nothing_and_stays_one(calibrator):
    broken = of_probs([*P, [np.nan] * 3])
    tilt = calibrator.fit(pool_mean(broken).shares(), Tilt(), labelled())
    assert tilt == calibrator.fit(MEAN, Tilt(), labelled())
    assert calibrated(tilt, broken).usable().tolist() == [True] * 10 + [False]


def test_each_calibrator_of_a_chain_is_fitted_on_what_the_ones_before_it_made():
    asked = []

    def mean_of(stage: int, tilt: Tilt) -> np.ndarray:
        asked.append(stage)
        return pool_mean(calibrated(tilt, TABLE)).shares()

    found = fit_chain((Sharpen(temperature=0.5), Align(), AdjustLogits()), mean_of, labelled())
    sharp = Tilt(power=2)
    aligned = sharp.then(
        Align().fit(pool_mean(calibrated(sharp, TABLE)).shares(), sharp, labelled())
    )
    last = AdjustLogits().fit(pool_mean(calibrated(aligned, TABLE)).shares(), aligned, labelled())
    assert found == aligned.then(last)
    assert asked == [1, 2], "sharpening reads no mean, so none is asked for"


def test_a_chain_of_nothing_changes_no_bit():
    found = fit_chain((), lambda stage, tilt: MEAN, labelled())
    assert calibrated(found, TABLE) is TABLE


@pytest.mark.parametrize("calibrator", [c for c in EVERY if c.needs_labelled], ids=str)
def test_a_calibrator_that_needs_labelled_predictions_asks_for_them(calibrator):
    with pytest.raises(ValueError, match="needs out-of-fold predictions"):
        calibrator.fit(MEAN, Tilt(), FREQUENT)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)
