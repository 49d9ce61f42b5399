"""Calibrators that read features: golden values, limits, and that parts are as the whole."""

from dataclasses import replace

import numpy as np
import pytest

from trainables.beliefs import Beliefs
from trainables.calibrators import Sharpen, fit_chain
from trainables.nearby import NeighbourMean, PrototypeBlend
from trainables.neighbours import directions
from trainables.row_maps import Tilt, calibrated
from trainables.selectors.rules import Labelled

COUNTED = Labelled(np.array([5, 5, 5]))
EVERY = {
    "neighbours": NeighbourMean(k=4),
    "plain mean": NeighbourMean(k=4, share=1.0, temperature=None),
    "whole bank": NeighbourMean(k=None, share=0.1, temperature=0.2),
    "prototypes": PrototypeBlend(share=0.3),
    "by class": PrototypeBlend(share=1.0, class_temperature=1.5, trim=0.2),
}
every_calibrator = pytest.mark.parametrize("calibrator", EVERY.values(), ids=EVERY)


def located(seed: int = 0, num: int = 60, classes: int = 3, width: int = 8) -> Beliefs:
    """Rows whose features lean towards the class that they are predicted as."""
    stream = np.random.default_rng(seed)
    probs = stream.dirichlet([0.7] * classes, num)
    features = stream.normal(size=(num, width)) * 0.4
    features[np.arange(num), probs.argmax(axis=1)] += 1
    found = Beliefs.of_log_probs([f"row-{i}" for i in range(num)], np.float32(np.log(probs)))
    return replace(found, features=directions(features)[0].astype(np.float16))


POOL = located()


def fitted(calibrator, sample: Beliefs = POOL):
    return calibrator.fit_sample(sample)


@every_calibrator
def test_rows_sum_to_one_and_keep_their_ids_and_features(calibrator):
    found = calibrated(fitted(calibrator), POOL)
    assert np.exp(found.log_probs).sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    assert found.log_probs.dtype == np.float32
    assert found.example_ids == POOL.example_ids
    assert found.features is POOL.features


@every_calibrator
def test_parts_are_as_the_whole_in_any_order(calibrator):
    by = fitted(calibrator)
    whole = calibrated(by, POOL).log_probs
    for part in np.array_split(np.random.default_rng(1).permutation(60), 7):
        assert (calibrated(by, POOL.taken(part)).log_probs == whole[part]).all()
    assert calibrated(by, POOL.taken(np.zeros(0, np.int64))).log_probs.shape == (0, 3)


@every_calibrator
def test_a_row_of_nan_stays_so_and_changes_no_other(calibrator):
    logs = POOL.log_probs.copy()
    logs[7] = np.nan
    found = calibrated(fitted(calibrator), replace(POOL, log_probs=logs)).log_probs
    assert np.isnan(found[7]).all()
    rest = np.arange(60) != 7
    assert (found[rest] == calibrated(fitted(calibrator), POOL).log_probs[rest]).all()


@every_calibrator
def test_mass_that_a_sink_took_stays_away(calibrator):
    by = fitted(calibrator)
    less = replace(POOL, log_probs=POOL.log_probs + np.float32(np.log(0.25)))
    expected = calibrated(by, POOL).log_probs + np.log(0.25)
    assert calibrated(by, less).log_probs == pytest.approx(expected, abs=1e-4)


def test_a_share_of_nothing_changes_nothing():
    for calibrator in (NeighbourMean(share=0.0), PrototypeBlend(share=0.0)):
        found = calibrated(fitted(calibrator), POOL).log_probs
        assert np.exp(found) == pytest.approx(np.exp(POOL.log_probs), abs=1e-6)


def test_the_plain_mean_of_two_neighbours_is_that_of_the_others():
    near = replace(POOL.taken(np.arange(3)), features=np.ones((3, 2), np.float16))
    by = fitted(NeighbourMean(k=2, share=1.0, temperature=None), near)
    probs = np.exp(near.log_probs.astype(np.float64))
    expected = [(probs[1] + probs[2]) / 2, (probs[0] + probs[2]) / 2, (probs[0] + probs[1]) / 2]
    assert np.exp(calibrated(by, near).log_probs) == pytest.approx(np.array(expected), abs=1e-6)


def test_the_memory_of_comatch_has_its_golden_values():
    logs = np.float32(np.log([[0.9, 0.1], [0.2, 0.8]]))
    features = np.array([[0.8, 0.6], [0.6, 0.8]], np.float16)
    bank = replace(Beliefs.of_log_probs(["a", "b"], logs), features=features)
    one = Beliefs.of_log_probs(["c"], np.float32(np.log([[0.7, 0.3]])))
    one = replace(one, features=np.array([[1, 0]], np.float16))
    by = fitted(NeighbourMean(k=None, share=0.1, temperature=0.2), bank)
    assert np.exp(calibrated(by, one).log_probs)[0] == pytest.approx([0.701174, 0.298826], abs=2e-4)


def test_two_classes_a_single_row_and_an_empty_class_divide_by_nothing():
    alone = located(num=1, classes=2)
    for calibrator in EVERY.values():
        assert not np.isnan(calibrated(fitted(calibrator, alone), alone).log_probs).any()
    without = POOL.taken(np.flatnonzero(POOL.labels != 2))
    for calibrator in EVERY.values():
        found = np.exp(calibrated(fitted(calibrator, without), POOL).log_probs)
        assert found.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)


def test_features_stand_in_a_chain_with_tilts():
    chain = (Sharpen(temperature=0.5), PrototypeBlend(share=0.3), Sharpen(temperature=2))
    whole = fit_chain(
        chain,
        lambda _, before: np.zeros(0),
        COUNTED,
        None,
        lambda before: calibrated(before, POOL),
    )
    sharp = calibrated(Tilt(power=2), POOL)
    both = calibrated(chain[1].fit_sample(sharp), sharp)
    expected = calibrated(Tilt(power=0.5), both).log_probs
    assert calibrated(whole, POOL).log_probs == pytest.approx(expected, abs=1e-6)


def test_without_features_or_a_sample_it_is_refused_in_words():
    bare = replace(POOL, features=None)
    with pytest.raises(ValueError, match="holds no features"):
        fitted(NeighbourMean(), bare)
    with pytest.raises(ValueError, match="holds no features"):
        calibrated(fitted(NeighbourMean()), bare)
    with pytest.raises(ValueError, match="features, of which there are none"):
        fitted(PrototypeBlend()).applied(POOL.log_probs)
    with pytest.raises(ValueError, match="stored table only"):
        fit_chain((NeighbourMean(),), lambda _, before: np.zeros(0), COUNTED)


def test_the_whole_bank_needs_a_temperature():
    with pytest.raises(ValueError, match="without k needs a temperature"):
        NeighbourMean(k=None, temperature=None)


def test_neighbours_are_sought_among_the_first_rows_of_the_sample():
    few = fitted(NeighbourMean(k=3, bank=16))
    assert few.bank.ids == tuple(POOL.example_ids[:16])
    assert np.isfinite(calibrated(few, POOL).log_probs).all()
