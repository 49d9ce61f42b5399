"""Golden losses: an undecided network costs log C for each unit of target mass."""

import numpy as np
import pytest
import torch

from tests.trainables.students import (
    BATCH,
    CLASSES,
    FROZEN,
    LOG_CLASSES,
    SPECS,
    constant,
    data,
    every_spec,
    first_terms,
    network,
    same,
    train,
    undecided,
)
from trainables.batches import BatchPlan, Source, TrainingSet
from trainables.calibrators import Align
from trainables.loader import Loader, Rows
from trainables.objective import (
    ConsistencyTerm,
    LabelledTerm,
    Objective,
    SelectedTerm,
)
from trainables.schedules import Linear, Moment
from trainables.selectors.fixed import Threshold
from trainables.selectors.running import Memory
from trainables.student import TrainingSpec
from trainables.worker import Worker


def test_the_labelled_term_is_its_weight_times_a_mean():
    for goal in (Objective(), Objective(labelled=LabelledTerm(label_smoothing=0.3))):
        assert first_terms(goal)["labelled"] == pytest.approx(LOG_CLASSES, rel=1e-5)
    heavy = Objective(labelled=LabelledTerm(weight=0.25))
    assert first_terms(heavy)["labelled"] == pytest.approx(0.25 * LOG_CLASSES, rel=1e-5)


def test_the_selected_term_divides_by_rows_or_by_their_weights():
    weights = data().selected.weights
    spec = TrainingSpec(
        batch=BATCH.model_copy(update={"selected": 12}), optimiser=FROZEN
    )  # the batch holds the selection exactly once
    by_rows = train(spec, undecided(), steps=1)[1]["selected"]
    assert by_rows == pytest.approx(weights.mean().item() * LOG_CLASSES, rel=1e-5)
    by_mass = first_terms(Objective(selected=SelectedTerm(normalise="weight_mass")))["selected"]
    assert by_mass == pytest.approx(LOG_CLASSES, rel=1e-5)
    double = Objective(selected=SelectedTerm(normalise="weight_mass", weight=2))
    assert first_terms(double)["selected"] == pytest.approx(2 * LOG_CLASSES, rel=1e-5)


def test_without_a_selection_its_term_is_zero():
    found = first_terms(Objective(), data(selected=False))
    assert found["selected"] == 0
    assert found["loss"] == pytest.approx(LOG_CLASSES, rel=1e-5)


@pytest.mark.parametrize("normalise", ["all", "selected"])
@pytest.mark.parametrize("labels_from", ["student", "teacher"])
def test_the_consistency_term_counts_what_reaches_its_threshold(normalise, labels_from):
    def term(threshold: float) -> Objective:
        return Objective(
            consistency=ConsistencyTerm(
                selector=Threshold(threshold=threshold),
                weight=0.5,
                normalise=normalise,
                labels_from=labels_from,
            )
        )

    reached, missed = first_terms(term(1 / CLASSES)), first_terms(term(0.3))
    assert reached["consistency_accepted"] == 1
    assert reached["consistency"] == pytest.approx(0.5 * LOG_CLASSES, rel=1e-5)
    assert missed["consistency_accepted"] == missed["consistency"] == 0


@every_spec
def test_the_loss_is_the_sum_of_its_terms(spec):
    found = train(spec)[1]
    parts = {k: v for k, v in found.items() if k not in ("loss", "consistency_accepted")}
    assert found["loss"] == pytest.approx(sum(parts.values()), rel=1e-5)
    assert parts["labelled"] > 0 < parts["selected"]
    assert all(value != 0 for value in parts.values())


def test_mixing_rows_of_one_mass_leaves_it_but_mixes_their_pixels():
    mixing = Objective(mixup_alpha=0.75)
    found = first_terms(mixing, data(selected=False))
    assert found["loss"] == pytest.approx(LOG_CLASSES, rel=1e-5)
    spec = SPECS["sgd"]
    mixed, _ = train(spec.model_copy(update={"objective": mixing}))
    assert not same(mixed.student, train(spec)[0].student)


def test_a_mixed_row_keeps_at_least_half_of_its_own_mass():
    goal = Objective(mixup_alpha=0.75, selected=SelectedTerm(weight=0))
    batch, heard = BatchPlan(labelled=1, selected=9), []
    train(
        TrainingSpec(batch=batch, objective=goal, optimiser=FROZEN),
        undecided(),
        steps=20,
        listen=lambda progress, _: heard.append(progress.terms["labelled"] / LOG_CLASSES),
    )
    assert 0.5 - 1e-5 <= min(heard) < 0.75
    assert max(heard) <= 1 + 1e-5


def supervised(alpha: float) -> Rows:
    """Labelled rows of 50 steps, in each step one of every class."""
    bank, plan = data().labelled.bank, BatchPlan(labelled=CLASSES, selected=0)
    on = TrainingSet(Source(bank, np.arange(CLASSES), torch.arange(CLASSES)))
    loader = Loader(plan, Objective(mixup_alpha=alpha), on, CLASSES, seed=0, worker=Worker())
    steps = [loader.supervised(Moment(step, 50)) for step in range(50)]
    return Rows(*(torch.cat([getattr(s, n) for s in steps]) for n in ("images", "mass", "term")))


def test_the_smaller_its_alpha_the_less_mixup_mixes_until_it_mixes_nothing():
    """Mean share of a row's partner over 50 steps. Measured: 0.187, 0.044 and 0.002."""
    shares = [1 - CLASSES * supervised(a).mass.amax(dim=1).mean().item() for a in (1.0, 0.1, 0.01)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.02
    plain, mixed = supervised(0.0), supervised(1e-5)
    assert torch.allclose(mixed.mass, plain.mass, atol=1e-6)
    assert torch.allclose(mixed.images, plain.images, atol=1e-6)


def test_a_weight_that_moves_over_steps_is_read_at_every_step():
    goal = Objective(labelled=LabelledTerm(weight=Linear(start=0, end=1, over="steps")))
    heard = []
    train(
        TrainingSpec(batch=BATCH, objective=goal, optimiser=FROZEN),
        undecided(),
        steps=3,
        on=data(selected=False),
        listen=lambda progress, _: heard.append(progress.terms["labelled"]),
    )
    assert heard == pytest.approx([0, 0.5 * LOG_CLASSES, LOG_CLASSES], rel=1e-5)


@pytest.mark.parametrize("begin", ["first_batch", "uniform"])
def test_running_means_take_in_the_mean_prediction_of_the_pool_rows(begin):
    probs, model = np.array([0.7, 0.1, 0.1, 0.1]), constant([0.7, 0.1, 0.1, 0.1])
    term = ConsistencyTerm(calibrators=(Align(),), memory=Memory(begin=begin))
    goal = Objective(consistency=term)
    state, _ = train(TrainingSpec(batch=BATCH, objective=goal, optimiser=FROZEN), model, steps=1)
    before, behind = state.running.arrays()["means"]
    old = 0.25 if begin == "uniform" else 0.0
    assert before == pytest.approx(0.99 * old + 0.01 * probs, rel=1e-5)
    if begin == "first_batch":
        assert behind == pytest.approx([0.01 * 0.25] * 4, rel=1e-5)


def test_without_a_consistency_term_nothing_is_remembered():
    state, _ = train(SPECS["sgd"])
    assert state.running.class_rows().sum() == 0
    assert state.running.shares() == pytest.approx([1 / CLASSES] * CLASSES)


def test_labels_of_the_weak_view_are_made_in_evaluation_mode():
    modes = []
    model = network("batch", dropout=0.5)
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    train(SPECS["soft consistency"], model, steps=2)
    assert modes == [False, True, False, True]


def test_a_consistency_term_without_pool_rows_acts_on_nothing():
    without = TrainingSet(data().labelled, data().selected, None)
    found = train(SPECS["soft consistency"], on=without)[1]
    assert found["consistency"] == 0
    empty = TrainingSet(data().labelled, None, Source(data().pool.bank, np.zeros(0, np.int64)))
    with pytest.raises(ValueError, match=r"set training\.batch\.pool"):
        train(SPECS["soft consistency"], on=empty)
