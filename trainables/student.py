"""The training loop of one round: plain torch, one process or many, resumable at any step.

All randomness is a function of the seed and the step, and every worker draws rows and views for
the *global* batch, so what a student learns does not depend on interruptions, nor, up to the order
of float sums, on the number of workers. Two things do: dropout is drawn by each worker for its own
rows, and batch norm normalises over the rows of one forward pass (synchronised between GPUs).

Legend: B rows of the global batch, C classes.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from trainables import teachers
from trainables.augment import View
from trainables.batches import BatchPlan, Cycle, Source, TrainingSet, share_of
from trainables.models import synchronised
from trainables.objective import Objective, consistency_mass, cross_entropy, mixed
from trainables.optimiser import OptimiserSpec
from trainables.randomness import derive, numpy_stream
from trainables.schedules import at_step
from trainables.spec import Spec
from trainables.teachers import StudentIsTeacher, TeacherRule

ALIGN_DECAY = 0.99


class StepCount(Spec):
    """How many optimiser steps a round trains; grows with the selection if asked."""

    first_round: Annotated[int, Field(ge=1)] = 600
    """Steps of round 0, on labels alone."""
    base: Annotated[int, Field(ge=0)] = 600
    """Steps of a later round, before any growth."""
    passes_over_selection: Annotated[float, Field(ge=0)] = 0.0
    """Further passes over the selection, in passes; they add steps as the selection grows."""
    most: Annotated[int, Field(ge=1)] = 100_000
    """No round trains more steps than this."""

    def resolve(self, num_selected: int, selected_per_step: int) -> int:
        """Steps of a round whose selection holds ``num_selected`` rows (0 in round 0)."""
        if not num_selected:
            return min(self.most, self.first_round)
        passes = self.passes_over_selection * num_selected / max(1, selected_per_step)
        return max(1, min(self.most, self.base + round(passes)))


class TrainingSpec(Spec):
    """What decides how a student is trained within one round."""

    steps: StepCount = StepCount()
    """Length of a round."""
    batch: BatchPlan = BatchPlan()
    """Composition of the global batch."""
    objective: Objective = Objective()
    """The loss and its views."""
    optimiser: OptimiserSpec = OptimiserSpec()
    """How weights move."""
    teacher: TeacherRule = StudentIsTeacher()
    """How the teacher, which labels the pool and is scored, follows the student."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward and backward pass; weights and losses stay float32."""


@dataclass(frozen=True)
class Worker:
    """One of the processes that train together, and how it holds its rows."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rows_per_pass: int = 0
    """Most rows in one forward pass; more are accumulated. 0 means all at once."""


@dataclass
class Progress:
    """Where a fit stands, told to the listener after each report interval."""

    step: int
    num_steps: int
    loss: float
    images_per_s: float
    terms: dict[str, float]


@dataclass
class TrainState:
    """Everything that a checkpoint must hold: weights, teacher, optimiser, running statistics."""

    student: nn.Module
    teacher: nn.Module
    optimiser: torch.optim.Optimizer
    marginal: Tensor
    """Running mean of predicted probabilities [C], for aligned targets."""
    step: int = 0


Listener = Callable[[Progress, TrainState], None]


def start(spec: TrainingSpec, model: nn.Module, num_classes: int, worker: Worker) -> TrainState:
    """The state before the first step, on the worker's device."""
    model = model.to(worker.device).to(memory_format=torch.channels_last)
    teacher = teachers.start_teacher(spec.teacher, model)
    marginal = torch.full((num_classes,), 1 / num_classes, device=worker.device)
    return TrainState(model, teacher, spec.optimiser.build(model), marginal)


def fit(
    spec: TrainingSpec,
    state: TrainState,
    data: TrainingSet,
    num_steps: int,
    *,
    seed: int,
    worker: Worker,
    listen: Listener,
) -> dict[str, float]:
    """Train ``state`` in place up to ``num_steps``; return each term's mean over the steps made.

    ``listen`` is called after every step on every worker and may save the state; raising from it
    ends the fit between two steps.
    """
    wrapped = _wrap(state.student, worker)
    if worker.world > spec.batch.labelled:
        raise ValueError(
            f"{worker.world} workers share {spec.batch.labelled} labelled rows of a batch: each "
            "needs at least one; raise training.batch.labelled or lower placement.train_workers"
        )
    loader = _Loader(spec, data, len(state.marginal), seed, worker)
    sums: dict[str, float] = {}
    first_step, images, began = state.step, 0, time.perf_counter()
    with _seeded_apart():
        while state.step < num_steps:
            step = state.step
            _set_rate(state.optimiser, spec.optimiser.rate_at(step, num_steps))
            terms = _train_step(spec, state, wrapped, loader, num_steps, worker)
            teachers.follow(spec.teacher, state.teacher, state.student, step)
            state.step += 1
            images += loader.images_per_step
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value
            rate = images / max(1e-9, time.perf_counter() - began)
            listen(Progress(state.step, num_steps, terms["loss"], rate, terms), state)
    return {name: value / (state.step - first_step) for name, value in sums.items()}


def _train_step(
    spec: TrainingSpec,
    state: TrainState,
    wrapped: nn.Module,
    loader: "_Loader",
    num_steps: int,
    worker: Worker,
) -> dict[str, float]:
    state.student.train()
    images, mass, owners = loader.supervised(state.step, num_steps)
    kept = 0.0
    if spec.objective.consistency is not None and loader.data.pool is not None:
        strong, target, kept = _consistency(spec, state, loader, num_steps, worker)
        images, mass = torch.cat([images, strong]), torch.cat([mass, target])
        owners = torch.cat([owners, owners.new_full((len(strong),), 2)])
    # after the views, which seed the global generators for themselves
    torch.manual_seed(derive(loader.seed, "dropout", state.step, worker.rank))
    pieces = _num_pieces(loader, worker)
    state.optimiser.zero_grad(set_to_none=True)
    losses = torch.zeros(3)
    cuts = [torch.tensor_split(values, pieces) for values in (images, mass, owners)]
    for at, (rows, target, owner) in enumerate(zip(*cuts, strict=True)):
        last = at + 1 == pieces
        with _maybe_no_sync(wrapped, synchronise=last), _autocast(spec, worker):
            logits = wrapped(rows.contiguous(memory_format=torch.channels_last))
            loss = cross_entropy(logits, target) * worker.world
            torch.autograd.backward(loss)
        with torch.no_grad():
            by_row = -(target * torch.log_softmax(logits.float(), 1)).sum(1)
            losses.index_add_(0, owner.cpu(), by_row.cpu())
    if spec.optimiser.max_grad_norm:
        nn.utils.clip_grad_norm_(state.student.parameters(), spec.optimiser.max_grad_norm)
    state.optimiser.step()
    losses = _total(losses.to(worker.device), worker)
    names = ("labelled", "selected", "consistency")
    terms = dict(zip(names, losses.tolist(), strict=True)) | {"consistency_accepted": kept}
    return {"loss": float(losses.sum())} | terms


def _num_pieces(loader: "_Loader", worker: Worker) -> int:
    """Forward passes that a batch is cut into: as many on every worker, however rows fall."""
    if not worker.rows_per_pass:
        return 1
    shares = (loader.supervised_rows / worker.world, loader.pool_rows / worker.world)
    return max(1, math.ceil(sum(map(math.ceil, shares)) / worker.rows_per_pass))


@torch.no_grad()
def _consistency(
    spec: TrainingSpec, state: TrainState, loader: "_Loader", num_steps: int, worker: Worker
) -> tuple[Tensor, Tensor, float]:
    """Strong views of this worker's pool rows, their target mass, and the accepted share."""
    term = spec.objective.consistency
    assert term is not None  # noqa: S101 - the caller checked
    weak, strong = loader.pool_views(state.step)
    labeller = state.teacher if term.labels_from == "teacher" else state.student
    was_training = labeller.training
    labeller.eval()
    with _autocast(spec, worker):
        logits = labeller(weak.contiguous(memory_format=torch.channels_last))
    labeller.train(was_training)
    probs = torch.softmax(logits.float(), dim=1)
    marginal = None
    if term.align:
        mean = _total(probs.sum(dim=0), worker) / loader.pool_rows
        state.marginal.lerp_(mean, 1 - ALIGN_DECAY)
        marginal = state.marginal * probs.shape[1]
    threshold = at_step(term.threshold, state.step, num_steps)
    mass, accepted = consistency_mass(term, probs, threshold, marginal)
    kept = _total(accepted.sum().float(), worker)
    whole = torch.tensor(float(loader.pool_rows)) if term.normalise == "all" else kept
    weight = at_step(term.weight, state.step, num_steps)
    share = float(kept) / loader.pool_rows
    return strong, mass * (weight / whole.clamp_min(1.0)), share


class _Loader:
    """Turns a step number into this worker's rows of the global batch."""

    def __init__(
        self, spec: TrainingSpec, data: TrainingSet, num_classes: int, seed: int, worker: Worker
    ) -> None:
        self.data, self._spec, self.seed, self._worker = data, spec, seed, worker
        self._num_classes = num_classes
        plan, goal = spec.batch, spec.objective
        self._views = {"weak": View(goal.weak), "strong": View(goal.strong)}
        self._labelled = Cycle(len(data.labelled), plan.labelled, seed, "labelled")
        self._selected = (
            Cycle(len(data.selected), plan.selected, seed, "selected") if data.selected else None
        )
        self._pool = Cycle(len(data.pool), plan.pool, seed, "pool") if data.pool else None
        self.pool_rows = plan.pool if data.pool else 0
        self.supervised_rows = plan.labelled + (plan.selected if data.selected else 0)
        self.images_per_step = self.supervised_rows + self.pool_rows

    def supervised(self, step: int, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images [b, C, H, W], target mass [b, C] and term (0 labelled, 1 selected) [b]."""
        plan, worker = self._spec.batch, self._worker
        num_selected = plan.selected if self._selected else 0
        total = plan.labelled + num_selected
        mine = share_of(total, worker.rank, worker.world)
        alpha = self._spec.objective.mixup_alpha
        if not alpha:
            images, mass = self._rows(mine, step, num_steps)
            return images, mass, torch.from_numpy((mine >= plan.labelled).astype(np.int64))
        stream = numpy_stream(self.seed, "mixup", step)
        partner = stream.permutation(total)[mine]
        drawn = stream.beta(alpha, alpha, size=total)
        share = torch.from_numpy(np.maximum(drawn, 1 - drawn)[mine]).float()
        needed, where = np.unique(np.concatenate([mine, partner]), return_inverse=True)
        images, mass = self._rows(needed, step, num_steps)
        own, other = torch.from_numpy(where[: len(mine)]), torch.from_numpy(where[len(mine) :])
        owners = torch.from_numpy((mine >= plan.labelled).astype(np.int64))
        share = share.to(images.device)
        return (
            mixed(images[own], images[other], share),
            mixed(mass[own], mass[other], share),
            owners,
        )

    def _rows(self, rows: np.ndarray, step: int, num_steps: int) -> tuple[Tensor, Tensor]:
        """Views and target mass of the given rows of the global supervised batch."""
        plan, goal = self._spec.batch, self._spec.objective
        first, second = rows[rows < plan.labelled], rows[rows >= plan.labelled] - plan.labelled
        at = self._labelled.at(step)[first]
        images = self._view(goal.labelled.view, self.data.labelled, "labelled", step, at, first)
        mass = self.data.labelled.target_mass(at, self._num_classes, goal.labelled.label_smoothing)
        mass = mass * (at_step(goal.labelled.weight, step, num_steps) / plan.labelled)
        if self._selected is None or self.data.selected is None:
            return images, mass.to(images.device)
        drawn = self._selected.at(step)
        at = drawn[second]
        strong = self._view(goal.selected.view, self.data.selected, "selected", step, at, second)
        target = self.data.selected.target_mass(at, self._num_classes)
        whole = float(plan.selected)
        if goal.selected.normalise == "weight_mass" and self.data.selected.weights is not None:
            whole = float(self.data.selected.weights[torch.from_numpy(drawn)].sum())
        target = target * (at_step(goal.selected.weight, step, num_steps) / whole)
        return torch.cat([images, strong]), torch.cat([mass, target]).to(images.device)

    def pool_views(self, step: int) -> tuple[Tensor, Tensor]:
        """Weak and strong views [b, C, H, W] of this worker's pool rows."""
        if self._pool is None or self.data.pool is None:
            raise ValueError("a consistency term needs pool rows: set training.batch.pool")
        mine = share_of(self.pool_rows, self._worker.rank, self._worker.world)
        at = self._pool.at(step)[mine]
        weak = self._view("weak", self.data.pool, "pool-weak", step, at, mine)
        return weak, self._view("strong", self.data.pool, "pool-strong", step, at, mine)

    def _view(
        self,
        view: str,
        source: Source,
        name: str,
        step: int,
        at: np.ndarray,
        rows: np.ndarray,
    ) -> Tensor:
        images = source.images(at, self._worker.device)
        plan = self._spec.batch
        of = {"labelled": plan.labelled, "selected": plan.selected}.get(name, plan.pool)
        seed = derive(self.seed, "view", name, step)
        return self._views[view](images, seed=seed, rows=rows.tolist(), of=of)


def _wrap(model: nn.Module, worker: Worker) -> nn.Module:
    if worker.world == 1:
        return model
    if worker.device.type == "cuda":
        model = synchronised(model)
    ids = [worker.device.index] if worker.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids)


def _total(value: Tensor, worker: Worker) -> Tensor:
    """The sum of a value over all workers."""
    if worker.world > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def _autocast(spec: TrainingSpec, worker: Worker) -> torch.autocast:
    enabled = spec.precision == "bfloat16"
    return torch.autocast(worker.device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def _maybe_no_sync(model: nn.Module, *, synchronise: bool) -> Iterator[None]:
    if synchronise or not isinstance(model, nn.parallel.DistributedDataParallel):
        yield
        return
    with model.no_sync():
        yield


@contextmanager
def _seeded_apart() -> Iterator[None]:
    """Leave the process's global generators as they were found."""
    with torch.random.fork_rng():
        yield


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
