"""Terms of one step by hand: networks that give every image the same probabilities."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.students import (
    BATCH,
    CLASSES,
    FROZEN,
    LOG_CLASSES,
    STILL,
    constant,
    data,
    first_terms,
    network,
    train,
    undecided,
)
from trainables.batches import BatchPlan, Source, TrainingSet
from trainables.consistency import PoolRows
from trainables.loader import DEBIASING, LABELLED, POOL, SELECTED, Loader, Rows
from trainables.losses import balance_penalty, fairness_penalty
from trainables.objective import (
    BalanceTerm,
    ConsistencyTerm,
    EntropyTerm,
    LabelledTerm,
    Objective,
)
from trainables.pool_mean import PoolMean
from trainables.schedules import Linear, Moment
from trainables.selectors.fixed import Everything, Threshold
from trainables.selectors.running import Batch, Memory, Running
from trainables.student import TrainingSpec
from trainables.targets import TargetSpec
from trainables.terms import StepTerms, penalty
from trainables.weighting import Confidence
from trainables.worker import Worker

PROBS = [0.4, 0.3, 0.2, 0.1]
COST = -np.log(PROBS)
ACCEPTING = ConsistencyTerm(selector=Everything())


def terms_of(
    goal: Objective,
    model: nn.Module | None = None,
    *,
    on: TrainingSet | None = None,
    batch: BatchPlan = BATCH,
    steps: int = 1,
) -> dict[str, float]:
    """Terms of the first steps of a network that does not move."""
    spec = TrainingSpec(batch=batch, objective=goal, optimiser=FROZEN)
    return train(spec, model or constant(PROBS), steps=steps, on=on)[1]


def step_terms(goal: Objective, running: Running, accepted: list[bool]) -> StepTerms:
    loader = Loader(BATCH, goal, data(), CLASSES, seed=0, worker=Worker())
    nothing = Rows(torch.zeros(0), torch.zeros(0), torch.zeros(0))
    pool = PoolRows(nothing, torch.tensor(accepted), float(np.mean(accepted)))
    return StepTerms(goal, running, loader, Moment(0, 1), pool)


def random_log_probs(rows: int) -> Tensor:
    stream = torch.Generator().manual_seed(rows)
    return torch.log_softmax(2 * torch.randn(rows, CLASSES, generator=stream), 1)


# ---- penalties on the mean of the batch


@pytest.mark.parametrize("rows", [1, 5])
def test_a_penalty_on_one_worker_is_its_plain_formula_with_its_gradient(rows):
    target = torch.tensor([0.4, 0.3, 0.2, 0.1])
    mine, plain = (random_log_probs(rows).requires_grad_() for _ in range(2))
    found = penalty(mine.exp(), Worker(), lambda mean: 3 * balance_penalty(mean, target))
    expected = 3 * balance_penalty(plain.exp().mean(0), target)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    expected.backward()
    assert torch.allclose(mine.grad, plain.grad, atol=1e-6)


def test_a_penalty_on_no_row_is_zero_and_still_has_a_gradient():
    nothing = torch.zeros(0, CLASSES, requires_grad=True)
    found = penalty(nothing.exp(), Worker(), lambda mean: balance_penalty(mean, mean))
    found.backward()
    assert found.item() == 0
    assert nothing.grad.shape == (0, CLASSES)


@pytest.mark.parametrize("rows", ["all", "unlabelled"])
def test_balance_by_hand(rows):
    goal = Objective(consistency=ACCEPTING, balance=BalanceTerm(weight=0.5, rows=rows))
    assert terms_of(goal, undecided())["balance"] == pytest.approx(0, abs=1e-6)
    expected = 0.5 * sum(math.log(0.25 / p) for p in PROBS) / 4
    assert terms_of(goal)["balance"] == pytest.approx(expected, rel=1e-4)


def test_balance_against_the_labelled_rows_by_hand():
    shares = data().class_rows(CLASSES) / 9
    goal = Objective(balance=BalanceTerm(weight=1, target="labelled"))
    expected = sum(q * math.log(q / p) for q, p in zip(shares, PROBS, strict=True) if q)
    assert terms_of(goal)["balance"] == pytest.approx(expected, rel=1e-4)


# ---- entropy


@pytest.mark.parametrize("rows", ["all", "unlabelled"])
@pytest.mark.parametrize("selected", [True, False])
def test_entropy_is_a_mean_over_rows(rows, selected):
    goal = Objective(consistency=ACCEPTING, entropy=EntropyTerm(weight=0.5, rows=rows))
    on = data(selected=selected)
    assert terms_of(goal, undecided(), on=on)["entropy"] == pytest.approx(0.5 * LOG_CLASSES)
    expected = 0.5 * float(COST @ PROBS)
    assert terms_of(goal, on=on)["entropy"] == pytest.approx(expected, rel=1e-5)


def test_entropy_of_unlabelled_rows_is_nothing_where_there_are_none():
    goal = Objective(entropy=EntropyTerm(weight=1, rows="unlabelled"))
    on = TrainingSet(data().labelled)
    assert terms_of(goal, on=on)["entropy"] == 0


def test_a_weight_of_entropy_and_balance_may_move_over_steps():
    rising = Linear(start=0, end=1, over="steps")
    goal = Objective(
        consistency=ACCEPTING,
        entropy=EntropyTerm(weight=rising),
        balance=BalanceTerm(weight=rising),
    )
    spec, heard = TrainingSpec(batch=BATCH, objective=goal, optimiser=FROZEN), []
    train(spec, constant(PROBS), steps=3, listen=lambda p, _: heard.append(p.terms))
    for name in ("entropy", "balance"):
        found = [terms[name] for terms in heard]
        assert found == pytest.approx([0, found[2] / 2, found[2]], rel=1e-4)
        assert found[2] > 0


# ---- annealing


def test_sure_labelled_rows_stop_to_count_until_the_bound_has_risen():
    goal = Objective(labelled=LabelledTerm(anneal="linear"))
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3])
    on = TrainingSet(Source(data().labelled.bank, np.arange(9), labels), data().selected)
    heard = []
    train(
        TrainingSpec(batch=BatchPlan(labelled=9, selected=5), objective=goal, optimiser=FROZEN),
        constant([0.6, 0.3, 0.08, 0.02]),
        steps=5,
        on=on,
        listen=lambda p, _: heard.append(p.terms["labelled"]),
    )
    # the bounds .25, .4375, .625, .8125, 1: at first only classes 2 and 3 count, then all but 0
    cost = -np.log([0.6, 0.3, 0.08, 0.02]) * np.array([3, 2, 2, 2]) / 9
    assert heard == pytest.approx([cost[2:].sum(), cost[1:].sum(), *[cost.sum()] * 3], rel=1e-4)


def test_rows_above_the_bound_of_annealing_give_no_gradient_and_other_terms_are_untouched():
    goal = Objective(labelled=LabelledTerm(anneal="linear"))
    terms = step_terms(goal, Running(CLASSES, Memory(), 1), [True])
    log_probs = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.2, 0.4, 0.2, 0.2], [0.7, 0.1, 0.1, 0.1]])
    log_probs = log_probs.log().requires_grad_()
    mass = torch.eye(4)[[0, 0, 0]]
    found = terms.of(log_probs, mass, torch.tensor([LABELLED, LABELLED, SELECTED]))
    assert found["labelled"].item() == pytest.approx(-math.log(0.2), rel=1e-5)
    assert found["selected"].item() == pytest.approx(-math.log(0.7), rel=1e-5)
    torch.stack([*found.values()]).sum().backward()
    assert log_probs.grad[:, 0].tolist() == [0, -1, -1]


# ---- views of labelled rows


@pytest.mark.parametrize("view", ["weak", "strong", "both"])
def test_the_view_of_labelled_rows_does_not_change_what_they_weigh(view):
    found = first_terms(Objective(labelled=LabelledTerm(view=view, weight=0.5)))
    assert found["labelled"] == pytest.approx(0.5 * LOG_CLASSES, rel=1e-5)


def test_two_views_of_labelled_rows_train_the_network_on_twice_the_images():
    heard = []
    model = undecided()
    model.register_forward_pre_hook(lambda _, args: heard.append(len(args[0])))
    for view in ("weak", "both"):
        terms_of(Objective(labelled=LabelledTerm(view=view)), model)
    assert heard == [6 + 5, 12 + 5]


# ---- consistency


@pytest.mark.parametrize("normalise", ["all", "selected", "weight_mass"])
@pytest.mark.parametrize("pool", [1, 7])
def test_consistency_is_a_mean_over_what_its_normaliser_counts(normalise, pool):
    targets = TargetSpec(weight=Confidence())
    term = ConsistencyTerm(selector=Everything(), targets=targets, normalise=normalise)
    found = terms_of(Objective(consistency=term), batch=BATCH.model_copy(update={"pool": pool}))
    mean_weight = 1.0 if normalise == "weight_mass" else 0.4
    assert found["consistency"] == pytest.approx(mean_weight * COST[0], rel=1e-5)


def same_rows() -> TrainingSet:
    """Labelled rows that are the pool rows as well."""
    labelled = data().labelled
    return TrainingSet(labelled, None, Source(labelled.bank, labelled.rows))


@pytest.mark.parametrize("normalise", ["all", "selected", "weight_mass"])
def test_labelled_rows_that_are_the_pool_take_the_consistency_term_away(normalise):
    batch = BatchPlan(labelled=9, pool=9)
    term = ACCEPTING.model_copy(update={"normalise": normalise})
    for model in (undecided(), constant(PROBS)):
        plain = terms_of(Objective(consistency=term), model, on=same_rows(), batch=batch)
        assert plain["consistency"] > 0
        debiased = Objective(consistency=term.model_copy(update={"debias": True}))
        found = terms_of(debiased, model, on=same_rows(), batch=batch)
        assert found["consistency"] == pytest.approx(0, abs=1e-6)
        assert found["consistency_accepted"] == 1, "pool rows alone are counted"
        assert found["labelled"] == pytest.approx(plain["labelled"], rel=1e-6)


def test_each_side_of_a_debiased_term_is_a_mean_over_its_own_rows():
    term = ACCEPTING.model_copy(update={"debias": True, "weight": 0.5})
    for batch in (BATCH, BATCH.model_copy(update={"labelled": 2, "pool": 11})):
        found = terms_of(Objective(consistency=term), batch=batch)
        assert found["consistency"] == pytest.approx(0, abs=1e-6)


# ---- fairness


def test_fairness_is_the_plain_formula_over_accepted_pool_rows_with_its_gradient():
    goal = Objective(consistency=ConsistencyTerm(fairness=0.1, debias=True))
    running = Running(CLASSES, Memory(decay=0), 8)
    mean = PoolMean(8, np.array([3, 2, 2, 1]) * 2**30)
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    running.see(Batch(np.arange(8), labels, np.full(8, 0.5, np.float32), mean), None)
    accepted = [True, False, True, True, True, False]
    terms = step_terms(goal, running, accepted)
    # six pool rows, then two labelled rows that debiasing added
    mine, plain = (random_log_probs(9).requires_grad_() for _ in range(2))
    term = torch.tensor([LABELLED] + [POOL] * 6 + [DEBIASING] * 2)
    found = terms.of(mine, torch.zeros(9, CLASSES), term)["fairness"]
    probs = plain[1:7][torch.tensor(accepted)].exp()
    shares = torch.bincount(probs.argmax(1), minlength=CLASSES) / 4
    ratio = torch.tensor([3 / 4, 2 / 2, 2 / 1, 1 / 1])
    expected = 0.1 * fairness_penalty(probs.mean(0), shares, ratio / ratio.sum())
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.item() != 0
    found.backward()
    expected.backward()
    assert torch.allclose(mine.grad, plain.grad, atol=1e-7)


def test_fairness_is_zero_when_nothing_is_accepted():
    term = ConsistencyTerm(selector=Threshold(threshold=0.9), fairness=0.1)
    for begin in ("first_batch", "uniform"):
        goal = Objective(consistency=term.model_copy(update={"memory": Memory(begin=begin)}))
        found = terms_of(goal)
        assert found["consistency_accepted"] == 0
        assert found["fairness"] == 0
        assert math.isfinite(found["loss"])


def test_nothing_accepted_moves_nothing_through_fairness():
    """The student of a fit is that of a fit without the term, bit for bit."""
    students = []
    for fairness in (0.0, 0.1):
        term = ConsistencyTerm(selector=Threshold(threshold=0.99), fairness=fairness)
        goal = Objective(consistency=term, weak=STILL, strong=STILL)
        students.append(train(TrainingSpec(batch=BATCH, objective=goal), network())[0].student)
    for ours, theirs in zip(*(s.parameters() for s in students), strict=True):
        assert torch.equal(ours, theirs)
