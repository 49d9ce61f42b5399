"""The training of a landmark student: its terms, and the steps that move it.

Legend: b rows of this worker, K points, h and w sides of the maps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables import teachers
from trainables.landmarks.decode import peaks
from trainables.landmarks.geometry import dropped_outside, moved, renamed
from trainables.landmarks.network import LandmarkNetwork, Maps, cut, maps_of
from trainables.landmarks.rows import KnownBatch, PointLoader, PointSet
from trainables.landmarks.settings import LandmarkTraining
from trainables.landmarks.terms import KnownTerms
from trainables.landmarks.two_sources import TwoSourceStep
from trainables.partners import Partner
from trainables.randomness import derive
from trainables.schedules import Moment
from trainables.selectors.running import Memory, Running
from trainables.state import Listener, TrainState, check_shares, steps_up_to
from trainables.step_tally import counted_points
from trainables.tasks.kinds import Points
from trainables.update import autocast, wrap
from trainables.worker import Terms, Worker


def begin_landmarks(
    spec: LandmarkTraining,
    model: nn.Module,
    worker: Worker,
    partner: nn.Module | None = None,
) -> TrainState:
    """The state before the first step, on the worker's device.

    With two sources ``model`` is the calm network, which labels the pool, and ``partner`` the
    radical one; they have optimisers of their own.

    Raises:
        ValueError: Two sources, and only one network.
    """
    model = model.to(worker.device).to(memory_format=torch.channels_last)
    nothing = Running(1, Memory(), 0)  # points have no running statistics
    if spec.two_sources is None:
        teacher = teachers.start_teacher(spec.teacher, model)
        return TrainState(model, teacher, spec.optimiser.build(model), nothing)
    if partner is None:
        raise ValueError("two sources need two networks: give the partner")
    partner = partner.to(worker.device).to(memory_format=torch.channels_last)
    calm = Partner(model, spec.optimiser.build(model), nothing)
    delivered = model if spec.two_sources.deliver == "calm" else partner
    return TrainState(partner, delivered, spec.optimiser.build(partner), nothing, calm)


def fit_landmarks(  # noqa: PLR0913 - as `trainables.student.fit`, and the task
    spec: LandmarkTraining,
    state: TrainState,
    data: PointSet,
    task: Points,
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
        ValueError: The batch can't be shared by so many workers.
    """
    check_shares(spec.batch, worker)
    if worker.rows_per_pass:
        raise ValueError("placement.rows_per_pass does not cut batches of landmarks: set it to 0")
    loader = PointLoader(spec, data, task.mirrored, seed=seed, worker=worker)
    stepper = _Stepper(spec, state, loader, task, worker, seed)
    return steps_up_to(num_steps, state, stepper.step, loader.images_per_step, listen)


class _Stepper:
    """Makes steps: one network alone, or two that learn asynchronously."""

    def __init__(
        self,
        spec: LandmarkTraining,
        state: TrainState,
        loader: PointLoader,
        task: Points,
        worker: Worker,
        seed: int,
    ) -> None:
        self._spec, self._state, self._loader = spec, state, loader
        self._task, self._worker, self._seed = task, worker, seed
        assert isinstance(state.student, LandmarkNetwork)  # noqa: S101 - the task built it
        self.known = KnownTerms(spec.objective, state.student.stride, worker)
        self._student = _Moving(state.student, wrap(state.student, worker), state.optimiser)
        self._calm = None
        if state.partner is not None:
            calm = state.partner
            self._calm = _Moving(calm.network, wrap(calm.network, worker), calm.optimiser)

    def step(self, moment: Moment) -> Terms:
        """Make the step of this moment; its terms by name."""
        spec, state = self._spec, self._state
        rate = spec.optimiser.rate_at(moment.step, moment.num_steps)
        batch = self._loader.known(moment.step)
        if self._calm is not None and spec.two_sources is not None:
            return self._two(moment, rate, batch)
        pool = self._consistent(moment)
        images = batch.images if pool is None else torch.cat([batch.images, pool.images])
        maps = self._maps(self._student, images, moment)
        split = len(batch.images)
        terms = self.known.of(Maps(*(m[:split] for m in maps)), batch, moment)
        if pool is not None and spec.consistency is not None:
            value = self.known.heat(maps.heat[split:], pool.points, pool.weight)
            terms["consistency"] = moment.value(spec.consistency.weight) * value
        told = self._move(self._student, terms, rate)
        teachers.follow(spec.teacher, state.teacher, state.student, moment.step, state.snapshots)
        return told

    def _two(self, moment: Moment, rate: float, batch: KnownBatch) -> Terms:
        """One step of both networks, then their exchange."""
        two, calm = self._spec.two_sources, self._calm
        assert calm is not None and two is not None  # noqa: S101 - the caller checked
        assert isinstance(calm.network, LandmarkNetwork)  # noqa: S101 - the task built it
        frames, rows = self._loader.frames(moment.step), len(batch.images)
        act = TwoSourceStep(two, self.known, moment)
        with torch.no_grad(), autocast(self._spec.precision, self._worker.device):
            asked = calm if two.told_by == "calm" else self._student
            fused = act.fused(asked.network, frames)
        told = counted_points(fused.peak, act.learned(fused, frames), self._worker)
        self._state.running.tally.see_later(told, moment.share)
        images, drawn = torch.cat([batch.images, frames.images]), len(frames.images)
        maps = self._maps(self._student, images, moment, "radical")
        known, here = cut(maps, (rows, drawn))
        terms = self.known.of(known, batch, moment) | act.radical(here, fused)
        ended = self._move(self._student, terms, rate)
        maps = self._maps(calm, torch.cat([images, frames.beside]), moment, "calm")
        known, here, beside = cut(maps, (rows, drawn, drawn))
        terms = self.known.of(known, batch, moment) | act.calm(here, beside)
        found = self._move(calm, terms, rate)
        act.exchange(calm.network, self._student.network, self._state.snapshots)
        return ended | {f"calm_{term}": value for term, value in found.items()}

    def _consistent(self, moment: Moment) -> KnownBatch | None:
        """Pool rows in a strong view, with the points that the teacher finds in the weak one."""
        term = self._spec.consistency
        if term is None:
            return None
        views = self._loader.two_views(moment.step)
        teacher = self._state.teacher
        assert isinstance(teacher, LandmarkNetwork)  # noqa: S101 - the task built it
        with torch.no_grad(), autocast(self._spec.precision, self._worker.device):
            found = peaks(maps_of(teacher.eval(), views.weak).heat, teacher.stride)
        points = moved(found.points, views.to_strong, self._task.mirrored)
        peak = renamed(found.peak, views.to_strong, self._task.mirrored)
        points = dropped_outside(points, (views.strong.shape[2], views.strong.shape[3]))
        sure = (peak >= moment.value(term.threshold)) & points.isfinite().all(dim=2)
        tally = self._state.running.tally
        tally.see_later(counted_points(peak, sure, self._worker), moment.share)
        labelled = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        return KnownBatch(views.strong, points, peak.where(sure, 0), labelled)

    def _maps(self, moving: "_Moving", images: Tensor, moment: Moment, name: str = "") -> Maps:
        moving.network.train()
        torch.manual_seed(derive(self._seed, "dropout", name, moment.step, self._worker.rank))
        with autocast(self._spec.precision, self._worker.device):
            return Maps(*moving.wrapped(images.contiguous(memory_format=torch.channels_last)))

    def _move(self, moving: "_Moving", terms: dict[str, Tensor], rate: float) -> Terms:
        """One optimiser step down the sum of the terms, which are shares of all workers' sums."""
        for group in moving.optimiser.param_groups:
            group["lr"] = rate
        moving.optimiser.zero_grad(set_to_none=True)
        loss = torch.stack([*terms.values()])
        torch.autograd.backward(loss.sum() * self._worker.world)
        if most := self._spec.optimiser.max_grad_norm:
            nn.utils.clip_grad_norm_(moving.network.parameters(), most)
        moving.optimiser.step()
        self._worker.agree(moving.network)
        return self._worker.totals({name: value.detach() for name, value in terms.items()})


@dataclass(frozen=True)
class _Moving:
    """A network that trains."""

    network: nn.Module
    wrapped: nn.Module
    """It as the workers share it."""
    optimiser: torch.optim.Optimizer
