import numpy as np
import pytest
import torch
from torch import nn

from trainables.beliefs import Beliefs
from trainables.calibrators import Align
from trainables.checkpoint import (
    state_from_bytes,
    state_to_bytes,
    weights_from_bytes,
    weights_to_bytes,
)
from trainables.models import TimmModel, build
from trainables.objective import ConsistencyTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.own_networks import SmallCnn
from trainables.pool_mean import pool_mean
from trainables.selectors.running import Batch, Memory
from trainables.state import TrainState
from trainables.student import TrainingSpec, start
from trainables.teachers import ExponentialAverage, QueueMean, StudentIsTeacher, follow
from trainables.worker import Worker

OPTIMISERS = {
    "sgd": OptimiserSpec(learning_rate=0.1),
    "plain sgd": OptimiserSpec(learning_rate=0.1, momentum=0),
    "adamw": OptimiserSpec(kind="adamw", learning_rate=0.01),
}
TEACHERS = {
    "student": StudentIsTeacher(),
    "ema": ExponentialAverage(decay=0.8),
    "queue": QueueMean(length=2, push_every=2),
}
GOAL = Objective(consistency=ConsistencyTerm(calibrators=(Align(),), memory=Memory(decay=0.9)))
every_optimiser = pytest.mark.parametrize("optimiser", OPTIMISERS.values(), ids=OPTIMISERS.keys())
every_teacher = pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS.keys())


def network(seed: int = 0, num_classes: int = 4) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(SmallCnn(width=8), 1, 12, num_classes)


def begun(optimiser: OptimiserSpec, teacher, seed: int = 0) -> tuple[TrainingSpec, TrainState]:
    spec = TrainingSpec(optimiser=optimiser, teacher=teacher, objective=GOAL)
    return spec, start(spec, network(seed), 4, Worker(), pool_rows=20)


def walk(spec: TrainingSpec, state: TrainState, until: int) -> None:
    """A hand-written training loop whose gradients depend on the step alone."""
    state.student.train()
    while state.step < until:
        images = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(state.step))
        state.optimiser.zero_grad()
        log_probs = torch.log_softmax(state.student(images), dim=1)
        log_probs.exp().square().sum().backward()
        state.optimiser.step()
        follow(spec.teacher, state.teacher, state.student, state.step, state.snapshots)
        remember(state, log_probs.detach())
        state.step += 1


def remember(state: TrainState, log_probs: torch.Tensor) -> None:
    """What a consistency term would take in at this step."""
    beliefs = Beliefs.of_log_probs([""] * len(log_probs), log_probs.numpy())
    mean, places = pool_mean(beliefs), np.arange(state.step, state.step + len(beliefs))
    state.running.see_mean(0, mean)
    state.running.see(Batch(places, beliefs.labels, beliefs.confidence, mean), 0.26)


def tensors(state: TrainState) -> dict[str, torch.Tensor]:
    found = {"step": torch.tensor(state.step)}
    found |= {f"running.{k}": torch.from_numpy(v) for k, v in state.running.arrays().items()}
    found |= {f"student.{k}": v for k, v in state.student.state_dict().items()}
    found |= {f"teacher.{k}": v for k, v in state.teacher.state_dict().items()}
    for at, values in state.optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                found[f"optimiser.{at}.{name}"] = torch.as_tensor(value)
    return found


def assert_same(first: TrainState, second: TrainState) -> None:
    ours, theirs = tensors(first), tensors(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize(
    "spec", [SmallCnn(width=8), SmallCnn(width=8, norm="group"), TimmModel(name="resnet18")]
)
def test_weights_survive_their_bytes(spec):
    source, other = build(spec, 1, 28, 4), build(spec, 1, 28, 4)
    source(torch.rand(4, 1, 28, 28))  # moves the batch statistics
    weights_from_bytes(weights_to_bytes(source), other)
    for name, value in source.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_the_same_weights_give_the_same_bytes_and_others_do_not():
    model = network(0)
    first = weights_to_bytes(model)
    assert first == weights_to_bytes(network(0))
    assert first == weights_to_bytes(model.to(memory_format=torch.channels_last))
    assert first != weights_to_bytes(network(1))


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        weights_from_bytes(weights_to_bytes(network(num_classes=4)), network(num_classes=5))
    with pytest.raises(RuntimeError, match="Missing key"):
        weights_from_bytes(weights_to_bytes(nn.Linear(2, 2)), network())


@every_optimiser
@every_teacher
def test_a_training_state_survives_its_bytes(optimiser, teacher):
    spec, state = begun(optimiser, teacher)
    walk(spec, state, 3)
    _, other = begun(optimiser, teacher, seed=1)
    state_from_bytes(state_to_bytes(state), other)
    assert_same(state, other)
    assert (other.teacher is other.student) == (state.teacher is state.student)


@every_optimiser
@every_teacher
@pytest.mark.parametrize("stop", [0, 1, 4, 6])
def test_a_walk_that_was_interrupted_ends_bit_for_bit_where_it_would_have(optimiser, teacher, stop):
    spec, whole = begun(optimiser, teacher)
    walk(spec, whole, 6)
    _, first = begun(optimiser, teacher)
    walk(spec, first, stop)
    _, resumed = begun(optimiser, teacher, seed=1)
    state_from_bytes(state_to_bytes(first), resumed)
    walk(spec, resumed, 6)
    assert_same(whole, resumed)


def test_saving_changes_nothing_in_the_state():
    spec, state = begun(OPTIMISERS["adamw"], TEACHERS["ema"])
    walk(spec, state, 2)
    before = {name: value.clone() for name, value in tensors(state).items()}
    state_to_bytes(state)
    assert all(torch.equal(value, before[name]) for name, value in tensors(state).items())


def test_a_restored_state_shares_no_memory_with_what_it_was_saved_from():
    spec, state = begun(OPTIMISERS["sgd"], TEACHERS["ema"])
    walk(spec, state, 2)
    _, other = begun(OPTIMISERS["sgd"], TEACHERS["ema"], seed=1)
    state_from_bytes(state_to_bytes(state), other)
    kept = {name: value.clone() for name, value in tensors(other).items()}
    walk(spec, state, 4)
    assert all(torch.equal(value, kept[name]) for name, value in tensors(other).items())


def test_a_restored_teacher_stays_frozen_and_apart():
    spec, state = begun(OPTIMISERS["sgd"], TEACHERS["ema"])
    walk(spec, state, 2)
    _, other = begun(OPTIMISERS["sgd"], TEACHERS["ema"], seed=1)
    state_from_bytes(state_to_bytes(state), other)
    assert not any(p.requires_grad for p in other.teacher.parameters())
    assert not torch.equal(other.teacher.classifier.weight, other.student.classifier.weight)


def test_a_state_of_another_architecture_is_refused():
    _, state = begun(OPTIMISERS["sgd"], TEACHERS["student"])
    spec = TrainingSpec()
    wider = start(spec, network(num_classes=5), 5, Worker())
    with pytest.raises(RuntimeError, match="size mismatch"):
        state_from_bytes(state_to_bytes(state), wider)
