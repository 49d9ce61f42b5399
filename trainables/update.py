"""One optimiser step of one network on rows whose targets are known.

Legend: b rows of this worker.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.beside import Beside
from trainables.heads import Outputs, outputs_of
from trainables.loader import Loader, Rows
from trainables.models import synchronised
from trainables.randomness import derive, seed_device
from trainables.schedules import Moment
from trainables.terms import StepTerms
from trainables.worker import Terms, Worker

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Learner:
    """A network that trains."""

    network: nn.Module
    wrapped: nn.Module
    """It, or it and its heads (`trainables.heads.Headed`), as the workers share it."""
    optimiser: torch.optim.Optimizer
    precision: Precision
    max_grad_norm: float
    worker: Worker

    def log_probs(self, images: Tensor) -> Tensor:
        """Log-probabilities float32 [b, C] of images, with gradients that the workers share."""
        return self.outputs(images).log_probs

    def outputs(self, images: Tensor, apart: Tensor | None = None) -> Outputs:
        """The same with what the heads say; rows that are ``apart``, bool [b], move no features."""
        with autocast(self.precision, self.worker.device):
            return outputs_of(self.wrapped, images, apart)

    def move(self) -> None:
        """Make the step that the gradients tell; workers keep one network, statistics included."""
        if self.max_grad_norm:
            moved = [p for group in self.optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(moved, self.max_grad_norm)
        self.optimiser.step()
        self.worker.agree(self.network)


def update(
    learner: Learner,
    rows: Rows,
    terms: StepTerms,
    loader: Loader,
    moment: Moment,
    *,
    name: str,
    beside: Beside | None = None,
) -> Terms:
    """Train on these rows; each term's value over the rows of all workers, and their sum.

    ``name`` tells networks of one step apart that draw dropout; ``beside`` holds auxiliary terms.
    """
    worker = learner.worker
    learner.network.train()
    # after the views, which seed the global generator for themselves
    seed_device(derive(loader.seed, name, moment.step, worker.rank), worker.device)
    pieces = _num_pieces(loader, worker)
    learner.optimiser.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    cuts = [torch.tensor_split(values, pieces) for values in (rows.images, rows.mass, rows.term)]
    for at, (images, mass, term) in enumerate(zip(*cuts, strict=True)):
        last = at + 1 == pieces
        with _maybe_no_sync(learner.wrapped, synchronise=last):
            outputs = learner.outputs(images, beside.apart(term) if beside else None)
            found = terms.of(outputs.log_probs, mass, term)
            found |= beside.of(outputs, term) if beside else {}
            torch.autograd.backward(torch.stack([*found.values()]).sum() * worker.world)
        for term_name, value in found.items():
            sums[term_name] = sums.get(term_name, 0) + value.detach()
    learner.move()
    return worker.totals(sums)


def _num_pieces(loader: Loader, worker: Worker) -> int:
    """Forward passes that a batch is cut into: as many on every worker, however rows fall."""
    if not worker.rows_per_pass:
        return 1
    most = sum(math.ceil(rows / worker.world) for rows in loader.rows_by_source())
    return max(1, math.ceil(most / worker.rows_per_pass))


def wrap(model: nn.Module, worker: Worker) -> nn.Module:
    """The model as the workers share it: gradients are averaged, GPUs share batch statistics."""
    if worker.world == 1:
        return model
    if worker.device.type == "cuda":
        model = synchronised(model)
    ids = [worker.device.index] if worker.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids)


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The arithmetic of forward passes."""
    enabled = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def _maybe_no_sync(model: nn.Module, *, synchronise: bool) -> Iterator[None]:
    if synchronise or not isinstance(model, nn.parallel.DistributedDataParallel):
        yield
        return
    with model.no_sync():
        yield
