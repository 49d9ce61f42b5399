"""Small networks, training sets and fits of a few steps."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from trainables.augment import ViewSpec
from trainables.batches import BatchPlan, Source, TrainingSet
from trainables.calibrators import Align
from trainables.losses import SymmetricCrossEntropy
from trainables.models import build
from trainables.objective import (
    BalanceTerm,
    ConsistencyTerm,
    EntropyTerm,
    LabelledTerm,
    Objective,
    SelectedTerm,
)
from trainables.optimiser import OptimiserSpec
from trainables.own_networks import SmallCnn
from trainables.schedules import Linear, SigmoidRamp
from trainables.selectors.adaptive import FlexThreshold, RelativeThreshold
from trainables.selectors.fixed import Threshold
from trainables.selectors.running import Memory
from trainables.state import TrainState
from trainables.student import TrainingSpec, fit, start
from trainables.targets import TargetSpec
from trainables.teachers import ExponentialAverage
from trainables.weighting import Gaussian
from trainables.worker import Worker

CLASSES = 4
LOG_CLASSES = math.log(CLASSES)
STILL = ViewSpec(flip=0, translate=0)
BATCH = BatchPlan(labelled=6, selected=5, pool=7)

EVERYTHING_AT_ONCE = Objective(
    labelled=LabelledTerm(label_smoothing=0.1),
    selected=SelectedTerm(weight=SigmoidRamp(end=1, over="steps"), normalise="weight_mass"),
    consistency=ConsistencyTerm(
        selector=Threshold(threshold=0.26),
        calibrators=(Align(),),
        labels_from="teacher",
        normalise="selected",
    ),
    mixup_alpha=0.5,
)
ADAPTIVE = Objective(
    consistency=ConsistencyTerm(
        calibrators=(Align(),),
        selector=FlexThreshold(threshold=0.27, floor=0.255),
        targets=TargetSpec(weight=Gaussian()),
        memory=Memory(decay=0.9),
        fairness=0.01,
    ),
    balance=BalanceTerm(),
    entropy=EntropyTerm(),
)
LABELLED_TOO = Objective(
    labelled=LabelledTerm(view="both", anneal="linear"),
    consistency=ConsistencyTerm(
        selector=RelativeThreshold(share=1.0), loss=SymmetricCrossEntropy(), debias=True
    ),
)
SPECS = {
    "sgd": TrainingSpec(batch=BATCH, optimiser=OptimiserSpec(learning_rate=0.1)),
    "adamw": TrainingSpec(
        batch=BATCH, optimiser=OptimiserSpec(kind="adamw", learning_rate=0.003, warmup_share=0.3)
    ),
    "everything at once": TrainingSpec(
        batch=BATCH,
        objective=EVERYTHING_AT_ONCE,
        teacher=ExponentialAverage(decay=0.9),
        optimiser=OptimiserSpec(learning_rate=0.1, max_grad_norm=1.0),
    ),
    "soft consistency": TrainingSpec(
        batch=BATCH,
        objective=Objective(
            consistency=ConsistencyTerm(
                selector=Threshold(threshold=Linear(start=0.2, end=0.3, over="steps")),
                targets=TargetSpec(kind="soft", temperature=0.5),
            )
        ),
    ),
    "adaptive consistency": TrainingSpec(
        batch=BATCH.model_copy(update={"pool": 17}),  # some are predicted as each of two classes
        objective=ADAPTIVE,
        optimiser=OptimiserSpec(learning_rate=0.002),
    ),
    "labelled consistency": TrainingSpec(batch=BATCH, objective=LABELLED_TOO),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


class Stop(Exception):  # noqa: N818 - it is no error
    pass


def network(norm: str = "group", seed: int = 0, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(SmallCnn(width=8, norm=norm, dropout=dropout), 1, 12, CLASSES)


def data(*, selected: bool = True) -> TrainingSet:
    stream = torch.Generator().manual_seed(5)
    bank = torch.randint(0, 256, (40, 1, 12, 12), dtype=torch.uint8, generator=stream)
    soft = torch.softmax(torch.randn(12, CLASSES, generator=stream), dim=1)
    weights = torch.rand(12, generator=stream).clamp_min(0.1)
    labels = torch.randint(0, CLASSES, (9,), generator=stream)
    return TrainingSet(
        labelled=Source(bank, np.arange(9), labels),
        selected=Source(bank, np.arange(9, 21), soft, weights) if selected else None,
        pool=Source(bank, np.arange(21, 40)),
    )


def ignore(progress, state) -> None:
    del progress, state


def train(
    spec: TrainingSpec,
    model: nn.Module | None = None,
    *,
    steps: int = 5,
    seed: int = 3,
    worker: Worker | None = None,
    on: TrainingSet | None = None,
    listen=ignore,
) -> tuple[TrainState, dict[str, float]]:
    worker, on = worker or Worker(), on or data()
    state = begun(spec, model or network(), on, worker)
    terms = fit(spec, state, on, steps, seed=seed, worker=worker, listen=listen)
    return state, terms


def begun(
    spec: TrainingSpec,
    model: nn.Module,
    on: TrainingSet | None = None,
    worker: Worker | None = None,
) -> TrainState:
    pool = (on or data()).pool
    return start(spec, model, CLASSES, worker or Worker(), len(pool) if pool else 0)


def same_running(first: TrainState, second: TrainState) -> bool:
    ours, theirs = first.running.arrays(), second.running.arrays()
    return all(np.array_equal(value, theirs[name]) for name, value in ours.items())


def names_of(goal: Objective) -> set[str]:
    """Terms that a fit with pool rows reports."""
    names = {"loss", "labelled", "selected"}
    if goal.consistency is not None:
        names |= {"consistency", "consistency_accepted"}
        names |= {"fairness"} if goal.consistency.fairness else set()
    names |= {"balance"} if goal.balance is not None else set()
    return names | ({"entropy"} if goal.entropy is not None else set())


def same(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())


def furthest(first: nn.Module, second: nn.Module) -> float:
    theirs = second.state_dict()
    ours = first.state_dict().items()
    return max(((value - theirs[name]).abs().max().item() for name, value in ours), default=0.0)


def undecided() -> nn.Module:
    """A network whose logits are all zero, so that every row costs log C times its mass."""
    model = network()
    nn.init.zeros_(model.classifier.weight)
    nn.init.zeros_(model.classifier.bias)
    return model


def constant(probs: list[float]) -> nn.Module:
    """A network that gives every image the same probabilities."""
    model = undecided()
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor(probs).log())
    return model


FROZEN = OptimiserSpec(learning_rate=1e-12, momentum=0, weight_decay=0)


def first_terms(goal: Objective, on: TrainingSet | None = None) -> dict[str, float]:
    spec = TrainingSpec(batch=BATCH, objective=goal, optimiser=FROZEN)
    return train(spec, undecided(), steps=1, on=on)[1]
