"""The training loop of one round: plain torch, one process or many, resumable at any step.

All randomness is a function of the seed and the step, and every worker draws rows and views for
the *global* batch, so what a student learns does not depend on interruptions, nor, up to the order
of float sums, on the number of workers. Two things do: dropout is drawn by each worker for its own
rows, and batch norm normalises over the rows of one forward pass (synchronised between GPUs).

Legend: B rows of the global batch, C classes.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from trainables import teachers
from trainables.batches import BatchPlan, TrainingSet
from trainables.beside import Beside, Representation
from trainables.consistency import PoolRows, label_pool, unlabelled_pool
from trainables.heads import Headed
from trainables.loader import Loader
from trainables.meta import meta_step
from trainables.objective import Objective
from trainables.optimiser import OptimiserSpec
from trainables.partners import (
    LookAhead,
    MetaLabels,
    MetaTeacher,
    Partner,
    PartnerSpec,
    Peer,
    SelfMeta,
)
from trainables.randomness import derive
from trainables.schedules import Moment
from trainables.selectors.running import Memory, Running
from trainables.self_meta import self_meta_step
from trainables.spec import Spec
from trainables.state import Listener, TrainState, check_shares, steps_up_to
from trainables.teachers import StudentIsTeacher, TeacherRule
from trainables.terms import StepTerms
from trainables.update import Learner, Precision, autocast, update, wrap
from trainables.worker import Terms, Worker


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
    partner: PartnerSpec | None = None
    """A second network that trains beside the student; none by default."""
    self_meta: SelfMeta | None = None
    """Let the student judge labels of its own by what they do to it; none by default."""
    look_ahead: LookAhead | None = None
    """Let the teacher look some steps ahead before it labels; it must follow the student."""
    precision: Precision = "float32"
    """Arithmetic of the forward and backward pass; weights and losses stay float32."""

    @property
    def reads_pool(self) -> bool:
        """Whether a step draws pool rows without stored labels."""
        told = self.objective.entropy is not None and self.batch.pool > 0
        return self.objective.consistency is not None or self.meta is not None or told

    @property
    def meta(self) -> MetaLabels | None:
        """The settings that judge labels by the labelled loss, if any do."""
        return self.partner if isinstance(self.partner, MetaTeacher) else self.self_meta


def start(
    spec: TrainingSpec,
    model: nn.Module,
    num_classes: int,
    worker: Worker,
    pool_rows: int = 0,
    partner: nn.Module | None = None,
    seed: int = 0,
) -> TrainState:
    """The state before the first step, on the worker's device.

    ``pool_rows`` is the size of the pool source that the round draws from, ``partner`` the network
    of the partner, if the settings have one. The seed decides the initial weights of heads.
    """
    model = model.to(worker.device).to(memory_format=torch.channels_last)
    teacher = teachers.start_teacher(spec.teacher, model)
    term = spec.objective.consistency

    def running() -> Running:
        if term is None:
            return Running(num_classes, Memory(), 0)
        return Running(num_classes, term.memory, pool_rows, stages=len(term.calibrators))

    beside = None
    if spec.objective.representation is not None:
        of = spec.objective.representation
        beside = Representation.begin(of, spec.teacher, model, num_classes, seed)
    moving = Headed(model, beside.heads) if beside is not None else model
    state = TrainState(model, teacher, spec.optimiser.build(moving), running(), beside=beside)
    if spec.partner is not None:
        if partner is None:
            raise ValueError("these settings train a partner: give its network")
        partner = partner.to(worker.device).to(memory_format=torch.channels_last)
        state.partner = Partner(partner, spec.optimiser.build(partner), running())
    return state


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

    Raises:
        ValueError: The objective can't be computed with this worker's share of the rows.
    """
    check_shares(spec.batch, worker)
    if worker.rows_per_pass and spec.objective.reads_batch_means:
        raise ValueError(
            "placement.rows_per_pass would change the result: the objective reads the mean "
            "prediction of the batch; set it to 0, or leave balance and fairness out"
        )
    if worker.rows_per_pass and spec.objective.representation is not None:
        raise ValueError(
            "placement.rows_per_pass can't cut batches whose rows objective.representation holds "
            "against each other; set it to 0"
        )
    if worker.rows_per_pass and spec.meta is not None:
        raise ValueError(
            "placement.rows_per_pass can't cut the batches of a meta teacher; set it to 0"
        )
    near = data.near(worker.device)

    def loader_of(stream: int) -> Loader:
        return Loader(
            spec.batch,
            spec.objective,
            near,
            state.running.num_classes,
            seed=stream,
            worker=worker,
            reads_pool=spec.reads_pool,
        )

    loader = loader_of(seed)
    own = isinstance(spec.partner, Peer) and spec.partner.batches == "own"
    wide = spec.look_ahead is not None and spec.look_ahead.kind == "wide"
    stepper = _Stepper(
        spec,
        state,
        _Batches(
            loader,
            peer=loader_of(derive(seed, "peer")) if own else loader,
            ahead=tuple(
                loader_of(derive(seed, "ahead", number)) if wide else loader
                for number in range(spec.look_ahead.steps if spec.look_ahead else 0)
            ),
        ),
        worker,
    )
    return steps_up_to(num_steps, state, stepper.step, loader.images_per_step, listen)


@dataclass(frozen=True)
class _Batches:
    """What draws the rows of a step."""

    student: Loader
    peer: Loader
    """For a peer; it may be the student's."""
    ahead: tuple[Loader, ...]
    """For each step ahead of the real one; they may be the student's."""


class _Stepper:
    """Makes steps: labels first, by all networks as they are, then every network moves."""

    def __init__(
        self, spec: TrainingSpec, state: TrainState, batches: _Batches, worker: Worker
    ) -> None:
        self._spec, self._state, self._worker = spec, state, worker
        self._loader, self._batches = batches.student, batches
        self._student = self._learner(state.student, state.headed("student"), state.optimiser)
        partner = state.partner
        self._partner = (
            self._learner(partner.network, partner.network, partner.optimiser) if partner else None
        )

    def step(self, moment: Moment) -> Terms:
        """Make the step of this moment; its terms by name."""
        spec, state = self._spec, self._state
        rate = spec.optimiser.rate_at(moment.step, moment.num_steps)
        _set_rate(state.optimiser, rate)
        if spec.look_ahead is not None:
            self._look_ahead(spec.look_ahead, moment)
        if isinstance(spec.partner, MetaTeacher):
            terms = self._meta(spec.partner, moment, rate)
        elif spec.self_meta is not None:
            terms = self_meta_step(
                spec.self_meta, self._student, self._terms(moment), self._loader, moment
            )
        else:
            terms = self._move(moment, rate, self._loader)
        teachers.follow(spec.teacher, state.teacher, state.student, moment.step, state.snapshots)
        if state.beside is not None:
            state.beside.follow(spec.teacher, moment.step)
        return terms

    def _learner(
        self, network: nn.Module, headed: nn.Module, optimiser: torch.optim.Optimizer
    ) -> Learner:
        return Learner(
            network,
            wrap(headed, self._worker),
            optimiser,
            self._spec.precision,
            self._spec.optimiser.max_grad_norm,
            self._worker,
        )

    def _move(self, moment: Moment, rate: float, loader: Loader) -> Terms:
        """The student's step on rows of ``loader``, and a peer's."""
        state, partner = self._state, self._state.partner
        if partner is None:
            pool = self._labelled_pool(None, state.running, loader, moment)
            return self._train(self._student, pool, state.running, loader, moment)
        _set_rate(partner.optimiser, rate)
        peer = self._batches.peer
        ours = self._labelled_pool(partner.network, state.running, loader, moment)
        theirs = self._labelled_pool(state.student, partner.running, peer, moment)
        terms = self._train(self._student, ours, state.running, loader, moment)
        assert self._partner is not None  # noqa: S101 - built with the state
        self._train(self._partner, theirs, partner.running, peer, moment, "partner-dropout")
        return terms

    def _labelled_pool(
        self, by: nn.Module | None, running: Running, loader: Loader, moment: Moment
    ) -> PoolRows | None:
        """The step's pool rows, if the objective wants any, as a peer or the own side labels."""
        goal, state = self._spec.objective, self._state
        term, beside = goal.consistency, state.beside
        if loader.data.pool is None or not self._spec.reads_pool:
            return None
        if term is None:
            return unlabelled_pool(running.num_classes, loader, moment)
        labeller = by or state.headed(term.labels_from)
        kept = beside.kept if beside is not None else None
        with autocast(self._spec.precision, self._worker.device):
            return label_pool(goal, labeller, running, kept, loader, moment)

    def _train(
        self,
        learner: Learner,
        pool: PoolRows | None,
        running: Running,
        loader: Loader,
        moment: Moment,
        name: str = "dropout",
    ) -> Terms:
        goal = self._spec.objective
        rows, beside = loader.supervised(moment), None
        if pool is not None:
            rows = rows.joined(pool.rows)
        known = pool.known if pool is not None else None
        if known is not None and goal.representation is not None:
            if goal.representation.further_views:
                rows = rows.joined(loader.further_views(moment.step))
            quarters = loader.quarters(moment.step)
            beside = Beside(goal.representation, moment, known, quarters, self._worker)
        terms = StepTerms(goal, running, loader, moment, pool)
        told = update(learner, rows, terms, loader, moment, name=name, beside=beside)
        if pool is None or goal.consistency is None:
            return told
        return told | {"consistency_accepted": pool.accepted_share}

    def _meta(self, spec: MetaTeacher, moment: Moment, rate: float) -> Terms:
        partner = self._state.partner
        assert partner is not None  # noqa: S101 - built with the state
        assert self._partner is not None  # noqa: S101 - a meta teacher has one
        _set_rate(partner.optimiser, rate * spec.rate_share)
        terms = self._terms(moment)
        return meta_step(spec, partner, self._student, self._partner, terms, self._loader, moment)

    def _terms(self, moment: Moment) -> StepTerms:
        """The terms of a step that draws no pool rows."""
        return StepTerms(self._spec.objective, self._state.running, self._loader, moment, None)

    def _look_ahead(self, spec: LookAhead, moment: Moment) -> None:
        """Let the teacher follow steps that are taken back."""
        state, rate = self._state, self._spec.optimiser.rate_at(moment.step, moment.num_steps)
        weights = copy.deepcopy(state.student.state_dict())
        moves = copy.deepcopy(state.optimiser.state_dict())
        known = copy.deepcopy(state.running.arrays())
        ahead: list[dict[str, torch.Tensor]] = []
        for loader in self._batches.ahead:
            self._move(moment, rate, loader)
            if spec.kind == "deep":
                teachers.follow(self._spec.teacher, state.teacher, state.student, moment.step)
                continue
            ahead.append(copy.deepcopy(state.student.state_dict()))
            self._restore(weights, moves)
        if ahead:
            state.student.load_state_dict(_mean_weights(ahead))
            teachers.follow(self._spec.teacher, state.teacher, state.student, moment.step)
        self._restore(weights, moves)
        state.running.restore(known)

    def _restore(self, weights: dict[str, torch.Tensor], moves: dict[str, Any]) -> None:
        self._state.student.load_state_dict(weights)
        self._state.optimiser.load_state_dict(copy.deepcopy(moves))


def _mean_weights(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of several weights; whole numbers are those of the last."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in states[-1].items()
    }


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
