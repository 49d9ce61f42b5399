"""Self meta pseudo labels: near small steps the meta term is the gradient of the expected loss."""

import copy
import itertools

import pytest
import torch
from torch import Tensor

from tests.trainables.test_meta import CLASSES, GOAL, MOMENT, ROWS, Linear, learner, loader
from trainables import self_meta
from trainables.partners import SelfMeta
from trainables.schedules import Moment
from trainables.selectors.running import Memory, Running
from trainables.self_meta import self_meta_step
from trainables.terms import StepTerms

SMALL = 0.01
PLAIN = SelfMeta(consistency=0.0, finetune=0.0)


def run(student: Linear, seed: int = 0, spec: SelfMeta = PLAIN, rate: float = SMALL, at=MOMENT):
    """One step from these weights; the second gradient, the terms, the network."""
    rows, learns = loader(seed), learner(copy.deepcopy(student), rate)
    terms = StepTerms(GOAL, Running(CLASSES, Memory(), 0), rows, at, None)
    told = self_meta_step(spec, learns, terms, rows, at)
    return learns.network.weight.grad.clone(), told, learns.network


def pool_pixels() -> Tensor:
    return loader().pool_pairs(0).strong.flatten(1).double()


def labelled_loss(weight: Tensor) -> Tensor:
    batch = loader().supervised(MOMENT)
    logits = batch.images.flatten(1).double() @ weight.T
    return -(batch.mass.double() * torch.log_softmax(logits, 1)).sum()


def learnt(weight: Tensor, labels: Tensor, rate: float = SMALL) -> Tensor:
    """The weights after the first optimiser step on these labels."""
    start = weight.detach().clone().requires_grad_()
    log_probs = torch.log_softmax(pool_pixels() @ start.T, dim=1)
    loss = -log_probs[torch.arange(ROWS), labels].mean()
    return (start - rate * torch.autograd.grad(loss, start)[0]).detach()


def exact_gradient(student: Linear) -> Tensor:
    """d/d labelling weights of the expectation over all joint labels of the new labelled loss."""
    probs = torch.softmax(pool_pixels() @ student.weight.T, dim=1)
    expected = torch.zeros((), dtype=torch.float64)
    for labels in itertools.product(range(CLASSES), repeat=ROWS):
        new = labelled_loss(learnt(student.weight, torch.tensor(labels)))
        chance = torch.stack([probs[i, k] for i, k in enumerate(labels)]).prod()
        expected = expected + chance * new.detach()
    return torch.autograd.grad(expected, student.weight)[0]


def mean_meta_gradient(student: Linear, monkeypatch, spec: SelfMeta = PLAIN) -> Tensor:
    """The meta part of the second gradient, over all joint labels by their probability."""
    probs = torch.softmax(pool_pixels() @ student.weight.T, dim=1).detach()
    mean = torch.zeros_like(student.weight)
    for labels in itertools.product(range(CLASSES), repeat=ROWS):
        told = torch.tensor(labels)
        monkeypatch.setattr(self_meta, "draw_labels", lambda *_, told=told: told)
        weight = learnt(student.weight, told).requires_grad_()
        (own,) = torch.autograd.grad(labelled_loss(weight), weight)
        chance = torch.stack([probs[i, k] for i, k in enumerate(labels)]).prod()
        mean += chance * (run(student, spec=spec)[0] - own)
    return mean.detach()


def cosine(first: Tensor, second: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0).item()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_mean_meta_gradient_is_that_of_the_expected_new_loss(seed, monkeypatch):
    student = Linear(seed)
    mean, exact = mean_meta_gradient(student, monkeypatch), exact_gradient(student) / ROWS
    assert cosine(mean, exact) > 0.99
    assert (mean.norm() / exact.norm()).item() == pytest.approx(1, abs=0.1)


def test_the_released_sign_climbs_where_the_derived_one_descends(monkeypatch):
    student, released = Linear(0), PLAIN.model_copy(update={"sign": "released"})
    mean = mean_meta_gradient(student, monkeypatch, released)
    assert cosine(mean, exact_gradient(student)) < -0.99


def test_h_is_how_far_the_first_step_lowered_the_labelled_loss():
    signs = set()
    for seed in range(20):
        student = Linear(seed)
        told = run(student, seed, PLAIN.model_copy(update={"labels": "best"}), rate=0.5)[1]
        best = (pool_pixels() @ student.weight.T).argmax(1)
        fall = labelled_loss(student.weight) - labelled_loss(learnt(student.weight, best, 0.5))
        if seed == 0:  # the loaders of other seeds hold the rows in another order
            assert told["h"] == pytest.approx(fall.item(), abs=1e-5)
        signs.add(told["h"] > 0)
    assert signs == {True, False}


def test_the_terms_of_a_step_add_up_to_its_loss():
    spec = SelfMeta(consistency=1.0, threshold=0.0, finetune=0.0)
    told = run(Linear(0), spec=spec)[1]
    parts = [told[name] for name in ("selected", "labelled", "consistency", "meta")]
    assert told["loss"] == pytest.approx(sum(parts))
    assert all(part != 0 for part in parts)


def test_the_last_steps_learn_labelled_rows_alone():
    told = run(Linear(0), spec=SelfMeta(finetune=0.2), at=Moment(999, 1000))[1]
    assert "meta" not in told
    assert told["labelled"] > 0
