import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from trainables.objective import ConsistencyTerm, Objective, consistency_mass, cross_entropy, mixed

PROBS = torch.tensor([[0.90, 0.06, 0.04], [0.30, 0.60, 0.10], [0.34, 0.33, 0.33], [0.2, 0.1, 0.7]])


def test_cross_entropy_of_one_row_by_hand():
    logits = torch.tensor([[math.log(0.7), math.log(0.2), math.log(0.1)]])
    hard, soft = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.25, 0.25]])
    assert cross_entropy(logits, hard).item() == pytest.approx(-math.log(0.2))
    expected = -0.5 * math.log(0.7) - 0.25 * math.log(0.2) - 0.25 * math.log(0.1)
    assert cross_entropy(logits, soft).item() == pytest.approx(expected)


def test_the_loss_of_uniform_logits_is_the_whole_mass_times_log_classes():
    mass = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    found = cross_entropy(torch.full((5, 4), 3.0), mass).item()
    assert found == pytest.approx(mass.sum().item() * math.log(4), rel=1e-6)


def test_rows_without_mass_give_neither_loss_nor_gradient():
    logits = torch.tensor([[5.0, -5.0], [1.0, 2.0]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.e), rel=1e-6)
    assert logits.grad[0].tolist() == [0, 0]


def test_the_gradient_is_mass_times_softmax_minus_target():
    logits = torch.tensor([[0.3, -0.2, 1.0]], requires_grad=True)
    target, weight = torch.tensor([[0.1, 0.7, 0.2]]), 0.4
    cross_entropy(logits, target * weight).backward()
    expected = weight * (torch.softmax(logits.detach(), 1) - target)
    assert torch.allclose(logits.grad, expected, atol=1e-7)


def test_the_loss_of_a_batch_is_the_sum_over_its_parts():
    stream = torch.Generator().manual_seed(1)
    logits, mass = torch.randn(6, 3, generator=stream), torch.rand(6, 3, generator=stream)
    parts = cross_entropy(logits[:2], mass[:2]) + cross_entropy(logits[2:], mass[2:])
    assert cross_entropy(logits, mass).item() == pytest.approx(parts.item(), rel=1e-6)


def test_half_precision_logits_are_summed_in_single_precision():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).bfloat16()
    assert cross_entropy(logits, PROBS).dtype == torch.float32
    assert torch.equal(cross_entropy(logits, PROBS), cross_entropy(logits.float(), PROBS))


def test_hard_targets_of_rows_that_reach_the_threshold():
    mass, accepted = consistency_mass(ConsistencyTerm(), PROBS, 0.6, None)
    assert accepted.tolist() == [True, True, False, True]
    assert mass.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_soft_targets_are_the_distribution_itself():
    mass, _ = consistency_mass(ConsistencyTerm(target="soft"), PROBS, 0.6, None)
    assert torch.equal(mass[[0, 1, 3]], PROBS[[0, 1, 3]])
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
    term = ConsistencyTerm(target="soft", temperature=temperature)
    mass, _ = consistency_mass(term, torch.tensor([probs]), 0.0, None)
    assert mass[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_sharpening_has_no_say_in_what_is_accepted():
    term = ConsistencyTerm(target="soft", temperature=0.1)
    assert consistency_mass(term, PROBS, 0.8, None)[1].tolist() == [True, False, False, False]


def test_a_higher_threshold_accepts_a_part_of_what_a_lower_one_does():
    found = [consistency_mass(ConsistencyTerm(), PROBS, t, None)[1] for t in (0.0, 0.5, 0.7, 0.95)]
    assert found[0].all()
    assert not found[-1].any()
    for lower, higher in pairwise(found):
        assert (higher <= lower).all()


def test_aligned_targets_by_hand():
    term = ConsistencyTerm(target="soft")
    marginal = torch.tensor([2.0, 0.5, 0.5])
    mass, _ = consistency_mass(term, PROBS[1:2], 0.0, marginal)
    # .3/2, .6/.5, .1/.5 = .15, 1.2, .2; their sum is 1.55
    assert mass[0].tolist() == pytest.approx([0.15 / 1.55, 1.2 / 1.55, 0.2 / 1.55])


def test_alignment_may_move_a_label_to_a_rare_class_but_not_the_acceptance():
    marginal = torch.tensor([3.0, 0.1, 1.0])
    mass, accepted = consistency_mass(ConsistencyTerm(), PROBS, 0.6, marginal)
    assert accepted.tolist() == [True, True, False, True]
    assert mass[0].tolist() == [0, 1, 0]


def test_a_uniform_marginal_aligns_nothing():
    term = ConsistencyTerm(target="soft")
    mass, _ = consistency_mass(term, PROBS, 0.0, torch.ones(3))
    assert torch.allclose(mass, PROBS)


def test_a_class_that_was_never_predicted_divides_by_no_zero():
    probs = torch.tensor([[1.0, 0.0, 0.0]])
    for target in ("hard", "soft"):
        term = ConsistencyTerm(target=target, temperature=0.5)
        mass, accepted = consistency_mass(term, probs, 1.0, torch.tensor([3.0, 0.0, 0.0]))
        assert accepted.all()
        assert mass[0].tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_mixing_is_row_by_row():
    first, second = torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    found = mixed(first, second, torch.tensor([0.75, 1.0]))
    assert found[0].unique().tolist() == [0.75]
    assert torch.equal(found[1], first[1])


def test_mixing_keeps_the_mass_between_its_partners():
    mass = mixed(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]]), torch.tensor([0.6]))
    assert mass[0].tolist() == pytest.approx([0.6, 0.2])


def test_a_mixed_target_costs_what_its_partners_cost_apart():
    logits, share = torch.tensor([[0.4, -1.0]]), torch.tensor([0.7])
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    apart = 0.7 * cross_entropy(logits, first) + 0.3 * cross_entropy(logits, second)
    together = cross_entropy(logits, mixed(first, second, share))
    assert together.item() == pytest.approx(apart.item(), rel=1e-6)


@pytest.mark.parametrize(
    "fault",
    [
        {"consistency": {"threshold": 1.1}},
        {"consistency": {"temperature": 0}},
        {"selected": {"weight": -1}},
        {"labelled": {"label_smoothing": 1}},
        {"labelled": {"normalise": "all"}},
        {"mixup_alpha": -0.1},
    ],
)
def test_settings_outside_their_bounds_are_refused(fault):
    with pytest.raises(ValidationError):
        Objective.model_validate(fault)
