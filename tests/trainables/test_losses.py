"""Row losses and penalties: golden values, and laws over every row loss."""

import math
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.trainables.selectors.pools import P
from trainables.losses import (
    BoundedCrossEntropy,
    CrossEntropy,
    GeneralisedCrossEntropy,
    RowLoss,
    SquaredError,
    SymmetricCrossEntropy,
    balance_penalty,
    entropy_rows,
    fairness_penalty,
)
from trainables.objective import one_hot

EVERY = (
    CrossEntropy(),
    BoundedCrossEntropy(bound=1.5),
    GeneralisedCrossEntropy(),
    GeneralisedCrossEntropy(q=1.0),
    GeneralisedCrossEntropy(truncate=0.5),
    SymmetricCrossEntropy(),
    SquaredError(),
)
every_loss = pytest.mark.parametrize("loss", EVERY, ids=str)
LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.softmax(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), dim=1)
EXTREME = torch.tensor([[300.0, -300.0, 0.0], [0.0, 300.0, -300.0], [-300.0, 0.0, 300.0]])


def of_row(loss: RowLoss, probs: list[float], label: int) -> float:
    """What one row of these probabilities costs against a class."""
    mass = torch.nn.functional.one_hot(torch.tensor([label]), len(probs)).float()
    return loss.rows(torch.tensor([probs]).log(), mass).item()


def gradient(loss: RowLoss, logits: Tensor, mass: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    loss.rows(torch.log_softmax(leaf, dim=1), mass).sum().backward()
    return leaf.grad


def test_every_row_loss_has_an_example():
    assert {type(loss) for loss in EVERY} == set(get_args(get_args(RowLoss)[0]))


# ---- golden values


@pytest.mark.parametrize(
    ("loss", "probs", "expected"),
    [
        (CrossEntropy(), (0.3, 0.5, 0.2), 1.203973),
        (GeneralisedCrossEntropy(q=0.7), (0.3, 0.5, 0.2), 0.813555),
        (GeneralisedCrossEntropy(q=0.8), (0.3, 0.5, 0.2), 0.772903),
        (GeneralisedCrossEntropy(q=0.7, truncate=0.5), (0.3, 0.5, 0.2), 0.549183),
        (GeneralisedCrossEntropy(q=0.7, truncate=0.5), (0.6, 0.3, 0.1), 0.429474),
        (SymmetricCrossEntropy(alpha=0, beta=1, clip=1e-4), (0.3, 0.5, 0.2), 6.447238),
        (SymmetricCrossEntropy(alpha=0.1, beta=1), (0.3, 0.5, 0.2), 6.567636),
        (BoundedCrossEntropy(bound=1.2), (0.2, 0.6, 0.2), 1.318335),
        (BoundedCrossEntropy(bound=1.2), (0.3, 0.5, 0.2), 1.203973),
        # a third of 0.49 + 0.25 + 0.04
        (SquaredError(), (0.3, 0.5, 0.2), 0.26),
    ],
    ids=str,
)
def test_row_losses_have_their_golden_values(loss, probs, expected):
    assert of_row(loss, list(probs), 0) == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_of_soft_targets_by_hand():
    log_probs = torch.tensor([[0.7, 0.2, 0.1]]).log()
    expected = -0.5 * math.log(0.7) - 0.25 * math.log(0.2) - 0.25 * math.log(0.1)
    found = CrossEntropy().rows(log_probs, torch.tensor([[0.5, 0.25, 0.25]]))
    assert found.item() == pytest.approx(expected)


def test_the_squared_error_of_weighted_soft_targets_by_hand():
    log_probs = torch.tensor([[0.3, 0.5, 0.2]]).log()
    mass = 0.4 * torch.tensor([[0.5, 0.5, 0.0]])
    assert SquaredError().rows(log_probs, mass).item() == pytest.approx(0.4 * (0.04 + 0.04) / 3)


def test_cross_entropy_of_uniform_predictions_is_the_whole_mass_times_log_classes():
    found = CrossEntropy().rows(torch.log_softmax(torch.full((6, 4), 3.0), 1), 0.3 * TARGETS)
    assert found.sum().item() == pytest.approx(0.3 * 6 * math.log(4), rel=1e-6)


def test_the_gradient_of_cross_entropy_is_mass_times_softmax_minus_target():
    expected = 0.4 * (torch.softmax(LOGITS, 1) - TARGETS)
    assert torch.allclose(gradient(CrossEntropy(), LOGITS, 0.4 * TARGETS), expected, atol=1e-7)


# ---- laws


@every_loss
@pytest.mark.parametrize("weight", [0.25, 2.0, -0.5])
def test_a_row_costs_in_proportion_to_its_mass(loss, weight):
    log_probs = torch.log_softmax(LOGITS, 1)
    once, heavy = loss.rows(log_probs, TARGETS), loss.rows(log_probs, weight * TARGETS)
    assert heavy.tolist() == pytest.approx((weight * once).tolist(), rel=1e-5)


@every_loss
def test_a_row_costs_the_same_whatever_rows_stand_beside_it(loss):
    log_probs = torch.log_softmax(LOGITS, 1)
    alone = [loss.rows(log_probs[i : i + 1], TARGETS[i : i + 1]).item() for i in range(6)]
    assert loss.rows(log_probs, TARGETS).tolist() == pytest.approx(alone, rel=1e-6)
    assert loss.rows(log_probs[:0], TARGETS[:0]).sum() == 0


@every_loss
def test_rows_without_mass_cost_nothing_and_give_no_gradient(loss):
    mass = TARGETS.clone()
    mass[[1, 4]] = 0
    assert loss.rows(torch.log_softmax(LOGITS, 1), mass)[[1, 4]].tolist() == [0, 0]
    found = gradient(loss, LOGITS, mass)
    assert found[[1, 4]].abs().max() == 0
    assert found[[0, 2, 3, 5]].abs().max() > 0


@every_loss
@pytest.mark.parametrize("label", [0, 1, 2])
def test_gradients_are_finite_where_probabilities_are_zero_or_one(loss, label):
    mass = torch.zeros(3, 3)
    mass[:, label] = 1
    log_probs = torch.log_softmax(EXTREME, 1)
    assert log_probs.exp().min() == 0
    assert log_probs.exp().max() == 1
    assert torch.isfinite(loss.rows(log_probs, mass)).all()
    assert torch.isfinite(gradient(loss, EXTREME, mass)).all()


@every_loss
def test_a_perfect_prediction_costs_nothing_and_is_cheaper_than_any_other(loss):
    logits = torch.tensor([[40.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-40.0, 0.0, 0.0]])
    mass = torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3)
    found = loss.rows(torch.log_softmax(logits, 1), mass)
    assert found[0].item() == pytest.approx(0, abs=1e-6)
    assert found[0] < found[1] <= found[2]


@every_loss
def test_a_loss_falls_along_its_own_gradient(loss):
    """Rows beyond a bound or a truncation stand still; the others fall."""
    mass = torch.nn.functional.one_hot(LOGITS.argmax(1), 4).float()
    down = LOGITS - 0.1 * gradient(loss, LOGITS, mass)
    before, after = (loss.rows(torch.log_softmax(x, 1), mass) for x in (LOGITS, down))
    assert (after <= before).all()
    assert after.sum() < before.sum()


def test_generalised_cross_entropy_ends_in_the_absolute_error_and_in_cross_entropy():
    log_probs = torch.log_softmax(LOGITS, 1)
    labels = torch.nn.functional.one_hot(torch.arange(6) % 4, 4).float()
    own = (log_probs.exp() * labels).sum(1)
    absolute = GeneralisedCrossEntropy(q=1.0).rows(log_probs, labels)
    assert absolute.tolist() == pytest.approx((1 - own).tolist(), rel=1e-5)
    near = GeneralisedCrossEntropy(q=1e-3).rows(log_probs, labels)
    assert near.tolist() == pytest.approx(CrossEntropy().rows(log_probs, labels).tolist(), rel=5e-3)


def test_rows_below_the_truncation_give_no_gradient():
    logits = torch.tensor([[0.3, 0.5, 0.2], [0.6, 0.3, 0.1]]).log()
    mass = torch.tensor([[1.0, 0.0, 0.0]]).expand(2, 3)
    found = gradient(GeneralisedCrossEntropy(truncate=0.5), logits, mass)
    assert found[0].abs().max() == 0
    assert found[1].abs().max() > 0


def test_rows_beyond_the_bound_of_cross_entropy_give_no_gradient_whatever_their_sign():
    logits = torch.tensor([[0.2, 0.6, 0.2], [0.6, 0.3, 0.1]]).log()
    for sign in (1.0, -1.0):
        mass = torch.tensor([[sign, 0.0, 0.0]]).expand(2, 3)
        found = gradient(BoundedCrossEntropy(bound=1.2), logits, mass)  # 1.2 log 3 = 1.32 nats
        assert found[0].abs().max() == 0
        assert torch.allclose(found[1], gradient(CrossEntropy(), logits, mass)[1])


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_an_untrained_network_learns_under_every_bound_that_is_legal(classes):
    logits, mass = torch.zeros(2, classes), one_hot(torch.tensor([0, 1]), classes)
    found = gradient(BoundedCrossEntropy(bound=1.01), logits, mass)
    assert torch.allclose(found, gradient(CrossEntropy(), logits, mass))
    with pytest.raises(ValidationError, match="bound"):
        BoundedCrossEntropy(bound=1.0)


# ---- penalties


def test_the_balance_and_the_entropy_of_the_table_have_their_golden_values():
    table = torch.tensor(P)
    found = balance_penalty(table.mean(0), torch.full((3,), 1 / 3)).item()
    assert found == pytest.approx(0.031476, abs=1e-6)
    # the mean form of Arazo et al. is the same but for a constant
    assert found + math.log(3) == pytest.approx(1.130088, abs=1e-6)
    assert entropy_rows(table.log()).mean().item() == pytest.approx(0.711301, abs=1e-6)


def test_balance_is_zero_at_its_target_and_above_it_elsewhere():
    target = torch.tensor([0.5, 0.3, 0.2])
    assert balance_penalty(target, target).item() == pytest.approx(0, abs=1e-7)
    assert balance_penalty(torch.tensor([0.2, 0.3, 0.5]), target).item() > 0


def test_balance_is_finite_for_classes_that_are_never_predicted_or_never_wanted():
    mean = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    value = balance_penalty(mean, torch.full((3,), 1 / 3))
    value.backward()
    assert value.item() > 1
    assert torch.isfinite(mean.grad).all()
    found = balance_penalty(torch.full((3,), 1 / 3), torch.tensor([1.0, 0.0, 0.0])).item()
    assert found == pytest.approx(math.log(3), rel=1e-6)


def test_entropy_is_finite_with_its_gradient_where_probabilities_are_zero():
    leaf = EXTREME.clone().requires_grad_()
    entropy_rows(torch.log_softmax(leaf, 1)).sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert entropy_rows(torch.log_softmax(EXTREME, 1)).tolist() == pytest.approx([0, 0, 0])


def test_fairness_by_hand():
    mean, shares = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.5, 0.25, 0.25])
    # the ratios 1, 1.2 and 0.8 divided by their sum of 3
    expected = 0.5 * math.log(1 / 3) + 0.3 * math.log(0.4) + 0.2 * math.log(0.8 / 3)
    found = fairness_penalty(mean, shares, torch.tensor([0.5, 0.3, 0.2])).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_class_that_no_accepted_row_is_predicted_as_counts_nothing_in_fairness():
    mean = torch.tensor([0.5, 0.3, 0.2], requires_grad=True)
    value = fairness_penalty(mean, torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.3, 0.2]))
    value.backward()
    # the ratios 1 and 0.6 divided by their sum of 1.6
    expected = 0.5 * math.log(0.625) + 0.3 * math.log(0.375)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert mean.grad[2] == 0
    assert torch.isfinite(mean.grad).all()


def test_fairness_of_no_accepted_row_is_nothing():
    nothing = torch.zeros(3)
    assert fairness_penalty(nothing, nothing, torch.full((3,), 1 / 3)).item() == 0
