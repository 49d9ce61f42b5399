"""What training steps accepted of the pool: counted exactly, whatever was interrupted or shared."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainables.students import (
    BATCH,
    CLASSES,
    FROZEN,
    SPECS,
    Stop,
    begun,
    constant,
    data,
    ignore,
    network,
    same,
    train,
)
from tests.trainables.two_workers import as_two_workers, keep, kept_by_two
from trainables.checkpoint import state_from_bytes, state_to_bytes
from trainables.objective import ConsistencyTerm, Objective
from trainables.partners import LookAhead, MetaTeacher, Peer, SelfMeta
from trainables.selectors.fixed import Threshold
from trainables.step_tally import PARTS, Counts, InStep, StepTally, counted
from trainables.student import TrainingSpec, fit, start
from trainables.teachers import ExponentialAverage
from trainables.worker import Worker

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])
LOGS = np.log(PROBS).astype(np.float32)
LABELS = PROBS.argmax(axis=1)
STEPS = 8


def report(logs: np.ndarray, accepted: list[bool]) -> InStep:
    tally = StepTally(logs.shape[1])
    tally.see(counted(logs, logs.argmax(axis=1), np.array(accepted), Worker()), 0.0)
    told = tally.told(accepts_all=False)
    assert told is not None
    return told


def told_by(spec: TrainingSpec, model=None, steps: int = STEPS) -> InStep:
    state, _ = train(spec, model, steps=steps)
    told = state.running.tally.told(accepts_all=False)
    assert told is not None
    return told


def fixmatch(threshold: float) -> TrainingSpec:
    term = ConsistencyTerm(selector=Threshold(threshold=threshold))
    return TrainingSpec(batch=BATCH, objective=Objective(consistency=term), optimiser=FROZEN)


def test_a_round_tells_the_thresholds_of_its_last_step():
    told = told_by(fixmatch(0.3))
    assert told.thresholds == pytest.approx((0.3,) * CLASSES)


# ---- one step


def test_accepted_rows_are_counted_by_the_class_that_they_were_given():
    told = report(LOGS, [True, True, False, True])
    assert (told.rows, told.class_rows, told.accepted_share) == (4, (2, 1, 0), 0.75)


def test_confidence_and_entropy_are_those_of_all_rows_accepted_or_not():
    told = report(LOGS, [False] * 4)
    mean = PROBS.mean(axis=0)
    assert told.mean_confidence == pytest.approx(PROBS.max(axis=1).mean(), rel=1e-6)
    assert told.entropy_of_mean == pytest.approx(-(mean * np.log(mean)).sum(), rel=1e-6)


def test_rows_that_are_not_finite_are_counted_and_enter_no_mean():
    broken = np.vstack([LOGS, np.full((2, 3), np.nan, np.float32)])
    told, clean = report(broken, [True] * 4 + [False] * 2), report(LOGS, [True] * 4)
    assert (told.not_finite, told.rows) == (2, 6)
    assert told.mean_confidence == clean.mean_confidence
    assert told.entropy_of_mean == clean.entropy_of_mean
    nothing = report(np.full((2, 3), np.nan, np.float32), [False] * 2)
    assert nothing.mean_confidence is nothing.entropy_of_mean is None


def test_a_probability_of_nothing_is_a_number():
    told = report(np.array([[0, -np.inf, -np.inf]], np.float32), [True])
    assert (told.not_finite, told.entropy_of_mean, told.mean_confidence) == (0, 0.0, 1.0)


# ---- a round


def test_a_round_tells_of_its_last_part_and_of_all_rows_that_were_not_finite():
    tally, few = StepTally(2), np.array([1.0, 0.0])
    for step in range(STEPS):
        lost = float(step == 0)
        tally.see(Counts(few * step, few, 2.0, 1.0, lost), step / (STEPS - 1))
    told = tally.told(accepts_all=True)
    assert told.class_rows == (6 + 7, 0)  # of the two last of eight steps
    assert (told.rows, told.not_finite, told.accepts_all) == (4, 1, True)
    assert STEPS // PARTS == 2


def test_a_round_that_labels_no_pool_row_tells_nothing():
    assert StepTally(3).told(accepts_all=False) is None


def test_the_spread_of_what_labels_did_is_that_of_its_values():
    tally, values = StepTally(2), np.array([0.5, -0.25, 0.125, 1.0])
    for value in values:
        tally.see_effect(float(value))
    tally.see(Counts(np.ones(2), np.ones(2), 2.0, 1.0, 0.0), 0.0)
    told = tally.told(accepts_all=True)
    assert told.effect_mean == pytest.approx(values.mean())
    assert told.effect_std == pytest.approx(values.std())


# ---- a fit


def test_a_fixmatch_training_records_what_its_steps_accepted_by_class():
    told = told_by(fixmatch(0.35), constant([0.4, 0.3, 0.2, 0.1]))
    assert told.class_rows == (14, 0, 0, 0)  # two steps of seven rows
    assert told.accepted_share == 1
    assert told.mean_confidence == pytest.approx(0.4, abs=1e-3)
    assert told_by(fixmatch(0.5), constant([0.4, 0.3, 0.2, 0.1])).class_rows == (0, 0, 0, 0)


def test_beliefs_that_are_not_finite_are_counted_by_a_fit():
    told = told_by(fixmatch(0.35), constant([float("nan"), 0.3, 0.2, 0.1]))
    assert told.not_finite == STEPS * BATCH.pool
    assert told.accepted_share == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"partner": MetaTeacher(finetune=0.0)},
        {"self_meta": SelfMeta(finetune=0.0)},
    ],
    ids=["meta teacher", "self meta"],
)
def test_meta_labels_are_counted_with_what_they_did(changes):
    spec = TrainingSpec(batch=BATCH, **changes)
    partner = network(seed=1) if "partner" in changes else None
    state = start(spec, network(), CLASSES, Worker(), 19, partner)
    terms = fit(spec, state, data(), STEPS, seed=3, worker=Worker(), listen=ignore)
    told = state.running.tally.told(accepts_all=True)
    assert sum(told.class_rows) == told.rows == 2 * BATCH.pool
    assert told.effect_mean == pytest.approx(terms["teacher_h" if partner else "h"])
    assert told.effect_std > 0


def test_steps_that_are_taken_back_are_not_counted():
    ahead = SPECS["everything at once"].model_copy(update={"look_ahead": LookAhead(steps=2)})
    assert told_by(ahead).rows == told_by(SPECS["everything at once"]).rows


def test_each_of_two_peers_counts_what_it_is_taught():
    spec = fixmatch(0.0).model_copy(update={"partner": Peer()})
    state = start(spec, network(), CLASSES, Worker(), 19, network(seed=1))
    fit(spec, state, data(), STEPS, seed=3, worker=Worker(), listen=ignore)
    told = [r.tally.told(accepts_all=True) for r in (state.running, state.partner.running)]
    assert [each.rows for each in told] == [2 * BATCH.pool] * 2
    assert told[0].mean_confidence != told[1].mean_confidence


# ---- interruptions and placement

STOPPED = TrainingSpec(
    batch=BATCH,
    objective=SPECS["everything at once"].objective,
    teacher=ExponentialAverage(decay=0.9),
)


def test_counts_of_an_interrupted_fit_are_those_of_a_whole_one():
    kept = []

    def leave(progress, state) -> None:
        if progress.step == STEPS - 1:
            kept.append(state_to_bytes(state))
            raise Stop

    with pytest.raises(Stop):
        train(STOPPED, steps=STEPS, listen=leave)
    resumed = begun(STOPPED, network(seed=8))
    state_from_bytes(kept[0], resumed)
    fit(STOPPED, resumed, data(), STEPS, seed=3, worker=Worker(), listen=ignore)
    assert resumed.running.tally.told(accepts_all=False) == told_by(STOPPED)


def test_a_checkpoint_without_counts_is_gone_on_with():
    state, _ = train(STOPPED, steps=2)
    older = {k: v for k, v in state.running.arrays().items() if not k.startswith("tally_")}
    resumed = begun(STOPPED, network())
    resumed.running.restore(older)
    assert resumed.running.tally.told(accepts_all=False) is None


def test_counting_leaves_every_weight_as_it_was(monkeypatch):
    counting, _ = train(STOPPED)
    monkeypatch.setattr(StepTally, "see", lambda *_: None)
    silent, _ = train(STOPPED)
    assert same(counting.student, silent.student)
    assert same(counting.teacher, silent.teacher)


def _train_shared(worker: Worker, folder: Path) -> None:
    keep([("shared", *train(STOPPED, steps=STEPS, worker=worker))], worker, folder)


@pytest.mark.slow
def test_two_workers_count_the_rows_of_one(tmp_path, monkeypatch):
    as_two_workers(_train_shared, tmp_path, monkeypatch)
    states, _ = kept_by_two(tmp_path, "shared", lambda: begun(STOPPED, network(seed=8)))
    first, second = (state.running.tally.told(accepts_all=False) for state in states)
    alone = told_by(STOPPED)
    assert first == second
    assert (first.rows, first.class_rows) == (alone.rows, alone.class_rows)
    assert first.mean_confidence == pytest.approx(alone.mean_confidence, abs=1e-5)
    assert first.entropy_of_mean == pytest.approx(alone.entropy_of_mean, abs=1e-5)
