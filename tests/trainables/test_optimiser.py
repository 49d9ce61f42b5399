import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables.models import build
from trainables.optimiser import OptimiserSpec
from trainables.own_networks import SmallCnn

QUICK = settings(deadline=None, derandomize=True, max_examples=60)
KINDS = pytest.mark.parametrize("kind", ["sgd", "adamw"])


def test_half_a_cosine_falls_from_the_peak():
    spec = OptimiserSpec(learning_rate=0.2)
    found = [spec.rate_at(step, 4) for step in range(4)]
    expected = [0.2 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert found == pytest.approx(expected)
    assert found[2] == pytest.approx(0.1)


def test_the_rate_ends_near_its_final_share():
    spec = OptimiserSpec(learning_rate=1.0, final_share=0.25)
    assert spec.rate_at(999, 1000) == pytest.approx(0.25, abs=1e-4)
    assert OptimiserSpec(learning_rate=1.0, final_share=1).rate_at(7, 9) == 1


def test_warmup_rises_in_equal_steps_to_the_peak():
    spec = OptimiserSpec(learning_rate=1.0, warmup_share=0.4)
    found = [spec.rate_at(step, 10) for step in range(5)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@QUICK
@given(
    warmup=st.floats(0, 0.9), final=st.floats(0, 1), num_steps=st.integers(1, 200), data=st.data()
)
def test_the_rate_is_positive_until_the_end_and_never_above_its_peak(
    warmup, final, num_steps, data
):
    spec = OptimiserSpec(learning_rate=0.3, warmup_share=warmup, final_share=final)
    rate = spec.rate_at(data.draw(st.integers(0, num_steps - 1)), num_steps)
    assert 0 < rate <= 0.3 + 1e-12


@KINDS
def test_biases_and_norms_are_not_decayed(kind):
    model = build(SmallCnn(width=8), 1, 28, 10)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    spec = OptimiserSpec(kind=kind, learning_rate=0.1, weight_decay=0.5)
    optimiser = spec.build(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, parameter in model.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == (parameter.ndim > 1), name


@KINDS
def test_every_trainable_parameter_is_in_one_group_and_no_frozen_one(kind):
    model = build(SmallCnn(width=8), 1, 28, 10)
    model.classifier.requires_grad_(requires_grad=False)
    groups = OptimiserSpec(kind=kind).build(model).param_groups
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def one_weight() -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    return layer


def test_two_steps_of_nesterov_momentum_by_hand():
    layer = one_weight()
    spec = OptimiserSpec(learning_rate=0.1, momentum=0.5, weight_decay=0)
    optimiser = spec.build(layer)
    for _ in range(2):
        layer.weight.grad = torch.ones(1, 1)
        optimiser.step()
    # velocities 1 and 1.5; steps 1 + .5 * 1 and 1 + .5 * 1.5
    assert layer.weight.item() == pytest.approx(1 - 0.1 * (1.5 + 1.75))


def test_sgd_without_momentum_is_the_plain_gradient_step():
    layer = one_weight()
    optimiser = OptimiserSpec(learning_rate=0.1, momentum=0, weight_decay=0.5).build(layer)
    layer.weight.grad = torch.full((1, 1), 2.0)
    optimiser.step()
    assert layer.weight.item() == pytest.approx(1 - 0.1 * (2 + 0.5))


def test_the_first_step_of_adam_is_one_rate_long_with_decay_apart():
    layer = one_weight()
    spec = OptimiserSpec(kind="adamw", learning_rate=0.01, weight_decay=0.5)
    optimiser = spec.build(layer)
    layer.weight.grad = torch.full((1, 1), 300.0)
    optimiser.step()
    assert layer.weight.item() == pytest.approx(1 * (1 - 0.01 * 0.5) - 0.01, abs=1e-6)
