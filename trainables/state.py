"""What a fit moves and tells, whatever its task, and the frame that all fits share."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from trainables.batches import BatchPlan
from trainables.beside import Representation
from trainables.heads import Headed
from trainables.partners import Partner
from trainables.schedules import Moment
from trainables.selectors.running import Running
from trainables.teachers import Snapshots
from trainables.worker import Terms, Worker


@dataclass
class Progress:
    """Where a fit stands, told to the listener after each report interval."""

    step: int
    num_steps: int
    images_per_s: float
    told: Terms
    """Values of the last step's terms, which a GPU may still work on."""

    @property
    def terms(self) -> dict[str, float]:
        """The same as numbers; a GPU is waited for."""
        return {name: float(value) for name, value in self.told.items()}

    @property
    def loss(self) -> float:
        """The loss of the last step; a GPU is waited for."""
        return float(self.told["loss"])


@dataclass
class TrainState:
    """Everything that a checkpoint must hold: weights, teacher, optimiser, running statistics."""

    student: nn.Module
    teacher: nn.Module
    optimiser: torch.optim.Optimizer
    running: Running
    """What the consistency term remembers of the pool."""
    partner: Partner | None = None
    """The second network, if there is one."""
    snapshots: Snapshots = field(default_factory=Snapshots)
    """What a queue of a teacher holds."""
    beside: Representation | None = None
    """Heads and kept rows, if the objective has a representation."""
    step: int = 0

    def headed(self, which: Literal["student", "teacher"]) -> nn.Module:
        """The student or the teacher, with its heads if there are any."""
        ours = which == "student"
        network = self.student if ours else self.teacher
        if self.beside is None:
            return network
        return Headed(network, self.beside.heads if ours else self.beside.teacher_heads)


Listener = Callable[[Progress, TrainState], None]


def check_shares(batch: BatchPlan, worker: Worker) -> None:
    """Whether every worker gets a row of each batch.

    Raises:
        ValueError: There are more workers than rows to share.
    """
    source, rows = batch.shared_rows
    if worker.world > rows:
        raise ValueError(
            f"{worker.world} workers share {rows} {source} rows of a batch: each "
            f"needs at least one; raise training.batch.{source} or lower placement.train_workers"
        )


def steps_up_to(
    num_steps: int,
    state: TrainState,
    step: Callable[[Moment], Terms],
    images_per_step: int,
    listen: Listener,
) -> dict[str, float]:
    """Make the steps that are left; each term's mean over them.

    ``step`` makes one and returns its terms, ``loss`` among them. The process's global generators
    are left as they were found.
    """
    sums: Terms = {}
    first_step, began = state.step, time.perf_counter()
    with torch.random.fork_rng():
        while state.step < num_steps:
            terms = step(Moment(state.step, num_steps))
            state.step += 1
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value
            if state.step == num_steps:
                float(terms["loss"])  # the clock is read when a GPU has done what it was told
            made = (state.step - first_step) * images_per_step
            rate = made / max(1e-9, time.perf_counter() - began)
            listen(Progress(state.step, num_steps, rate, terms), state)
    return {name: float(value) / (state.step - first_step) for name, value in sums.items()}
