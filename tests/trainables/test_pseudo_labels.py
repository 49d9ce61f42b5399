"""Pseudo-labels of one step: by hand, and what never has mass."""

from itertools import pairwise

import numpy as np
import pytest

from tests.trainables.selectors.pools import EVERY, labelled, of_probs
from trainables.beliefs import Beliefs
from trainables.calibrators import Align, Calibrator, Sharpen
from trainables.pseudo_labels import PseudoLabels, StepRows, fit_in_step
from trainables.row_maps import Tilt
from trainables.selectors.fixed import Threshold
from trainables.selectors.library import Selector
from trainables.selectors.rules import Labelled
from trainables.selectors.running import Memory, Running
from trainables.targets import TargetSpec
from trainables.weighting import Confidence, InverseClass
from trainables.worker import Worker

PROBS = [[0.90, 0.06, 0.04], [0.30, 0.60, 0.10], [0.34, 0.33, 0.33], [0.2, 0.1, 0.7]]
TOLD = of_probs(PROBS)
NOW = Memory(decay=0)
LIKE_SELECTED = Labelled(np.array([1, 1, 1]))


def of_step(
    told: Beliefs = TOLD,
    *,
    threshold: float = 0.6,
    calibrators: tuple[Calibrator, ...] = (),
    selector: Selector | None = None,
    known: Labelled = LIKE_SELECTED,
    running: Running | None = None,
    **targets,
) -> PseudoLabels:
    """Pseudo-labels of rows that a step sees as its whole batch."""
    labeller = fit_in_step(
        calibrators,
        selector or Threshold(threshold=threshold),
        TargetSpec(**targets),
        StepRows(told, np.arange(len(told))),
        running or Running(3, NOW, len(told), stages=len(calibrators)),
        known,
        Worker(),
    ).labeller
    return labeller.of(told)


def test_hard_targets_of_rows_that_reach_the_threshold():
    found = of_step()
    assert found.accepted.tolist() == [True, True, False, True]
    assert found.mass().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert found.labels.tolist() == [0, 1, 0, 2]
    assert found.weights.tolist() == [1, 1, 0, 1]


def test_soft_targets_are_the_distribution_itself():
    mass = of_step(kind="soft").mass()
    assert mass.dtype == np.float32
    assert mass[[0, 1, 3]] == pytest.approx(np.array(PROBS)[[0, 1, 3]], abs=1e-6)
    assert mass[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("probs", "temperature", "expected"),
    [
        ([0.70, 0.20, 0.10], 0.5, [0.907407, 0.074074, 0.018519]),
        ([0.90, 0.06, 0.04], 0.4, [0.998438, 0.001146, 0.000416]),
        ([0.70, 0.20, 0.10], 1.0, [0.70, 0.20, 0.10]),
    ],
)
def test_sharpened_targets_have_their_golden_values(probs, temperature, expected):
    found = of_step(of_probs([probs]), threshold=0.0, kind="soft", temperature=temperature)
    assert found.mass()[0] == pytest.approx(expected, abs=1e-6)


def test_the_temperature_of_targets_has_no_say_in_what_is_accepted():
    found = of_step(threshold=0.8, kind="soft", temperature=0.1)
    assert found.accepted.tolist() == [True, False, False, False]
    sharpened = of_step(threshold=0.8, calibrators=(Sharpen(temperature=0.1),))
    assert sharpened.accepted.tolist() == [True, True, False, True], "a calibrator's has"


def test_a_higher_threshold_accepts_a_part_of_what_a_lower_one_does():
    found = [of_step(threshold=t).accepted for t in (0.0, 0.5, 0.7, 0.95)]
    assert found[0].all()
    assert not found[-1].any()
    for lower, higher in pairwise(found):
        assert (higher <= lower).all()


# ---- calibrators before the selector


def remembering(mean: list[float]) -> Running:
    """Statistics so slow that the mean before the calibrator stays where it is put."""
    running = Running(3, Memory(decay=0.99999999, begin="uniform"), 9, stages=1)
    before = running.arrays()
    running.restore(before | {"means": np.array([mean, mean])})
    return running


def test_aligned_targets_by_hand():
    running = remembering([2 / 3, 1 / 6, 1 / 6])
    found = of_step(
        of_probs(PROBS[1:2]), threshold=0.0, calibrators=(Align(),), running=running, kind="soft"
    )
    # .3/2, .6/.5, .1/.5 = .15, 1.2, .2; their sum is 1.55
    assert found.mass()[0] == pytest.approx([0.15 / 1.55, 1.2 / 1.55, 0.2 / 1.55], abs=1e-4)


def test_aligning_moves_labels_and_with_them_what_the_selector_sees():
    running = remembering([0.9, 0.03, 0.07])
    found = of_step(threshold=0.6, calibrators=(Align(),), running=running)
    # .9/.9, .06/.03, .04/.07 = 1, 2, .571: the row goes to class 1 with less than .6
    assert found.labels[0] == 1
    assert not found.accepted[0]
    assert found.accepted[3], "and class 2 is still sure: .2/.9, .1/.03, .7/.07 = .22, 3.3, 10"


def test_labels_may_be_read_as_the_network_gave_them_while_acceptance_is_not():
    told, seen = (
        of_step(
            calibrators=(Align(),),
            running=remembering([0.9, 0.03, 0.07]),
            threshold=0.5,
            kind="soft",
            reads=reads,
        )
        for reads in ("teacher", "calibrated")
    )
    assert told.accepted.tolist() == seen.accepted.tolist()
    assert told.weights.tolist() == seen.weights.tolist()
    assert (told.labels[0], seen.labels[0]) == (0, 1)
    assert told.targets == pytest.approx(np.array(PROBS), abs=1e-6)
    assert seen.targets[0] == pytest.approx(np.array([1, 2, 0.5714]) / 3.5714, abs=1e-4)


def test_aligning_to_equal_shares_what_is_equal_changes_nothing():
    found = of_step(
        calibrators=(Align(),), running=remembering([1 / 3] * 3), threshold=0.0, kind="soft"
    )
    assert found.mass() == pytest.approx(np.array(PROBS), abs=1e-4)


def test_a_class_that_was_never_predicted_divides_by_no_zero():
    sure = of_probs([[1.0, 0.0, 0.0]])
    for kind in ("hard", "soft"):
        found = of_step(sure, threshold=1.0, calibrators=(Align(),), kind=kind, temperature=0.5)
        assert found.accepted.all()
        assert found.mass()[0] == pytest.approx([1, 0, 0], abs=1e-6)


# ---- weights


def test_weights_multiply_targets_and_are_zero_for_what_is_not_accepted():
    found = of_step(kind="soft", weight=Confidence(power=2))
    assert found.weights == pytest.approx([0.81, 0.36, 0, 0.49], abs=1e-6)
    assert found.mass().sum(axis=1) == pytest.approx([0.81, 0.36, 0, 0.49], abs=1e-6)
    assert found.mass()[1] == pytest.approx(0.36 * np.array(PROBS[1]), abs=1e-6)


def test_weights_by_class_count_the_rows_that_this_step_accepts():
    told = of_probs([*PROBS[:1] * 3, *PROBS[1:]])
    found = of_step(told, weight=InverseClass())
    assert found.weights == pytest.approx([1 / 3] * 3 + [1, 0, 1])


# ---- rows that are no numbers


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("weight", [Confidence(), InverseClass()], ids=str)
def test_rows_of_nan_have_no_mass(kind, weight):
    broken = Beliefs.of_log_probs([""] * 5, of_probs([*PROBS, [np.nan] * 3]).log_probs)
    found = of_step(broken, calibrators=(Align(),), threshold=0.0, kind=kind, weight=weight)
    assert found.accepted.tolist() == [True] * 4 + [False]
    assert np.isfinite(found.mass()).all()
    assert found.mass()[4].tolist() == [0, 0, 0]
    assert found.weights[4] == 0


def test_rows_of_nan_are_not_remembered():
    broken = Beliefs.of_log_probs([""] * 5, of_probs([*PROBS, [np.nan] * 3]).log_probs)
    running = Running(3, NOW, 5)
    of_step(broken, running=running)
    assert running.class_rows().tolist() == [2, 1, 1]
    assert running.mean_confidence() == pytest.approx((0.9 + 0.6 + 0.34 + 0.7) / 4)


@pytest.mark.parametrize("selector", EVERY, ids=str)
def test_a_step_of_nothing_but_nan_trains_on_nothing(selector):
    broken = Beliefs.of_log_probs([""] * 2, np.full((2, 3), np.nan, np.float32))
    found = of_step(broken, selector=selector, calibrators=(Align(),), known=labelled())
    assert not found.accepted.any()
    assert (found.mass() == 0).all()


def test_a_labeller_is_applied_row_by_row():
    labeller = fit_in_step(
        (Align(),),
        Threshold(threshold=0.5),
        TargetSpec(kind="soft", weight=Confidence()),
        StepRows(TOLD, np.arange(4)),
        Running(3, NOW, 4, stages=1),
        LIKE_SELECTED,
        Worker(),
    ).labeller
    assert labeller.tilt != Tilt()
    alone = [labeller.of(of_probs([row])).mass()[0] for row in PROBS]
    assert labeller.of(TOLD).mass() == pytest.approx(np.stack(alone), abs=1e-7)
