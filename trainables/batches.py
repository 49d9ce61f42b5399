"""Which rows a training step sees: decided by the seed and the step, never by the engine.

Legend: N rows of a source, B rows of it in the global batch, C classes, H height, W width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainables.randomness import numpy_stream
from trainables.spec import Spec

BANK_SHARE = 0.3
"""Images are kept in a GPU's memory while they fill at most this share of what is free."""


class BatchPlan(Spec):
    """Rows of each source in one *global* batch, whatever the number of workers."""

    labelled: Annotated[int, Field(ge=0)] = 64
    """Labelled rows in a global batch; they cycle, so few labels are seen often. 0 trains without
    labels."""
    labelled_alone: Annotated[int, Field(ge=1)] | None = None
    """Labelled rows in a batch while there is no selection, as in round 0; None: as many."""
    selected: Annotated[int, Field(ge=0)] = 64
    """Rows of the selection (pseudo-labelled) in a global batch."""
    pool: Annotated[int, Field(ge=0)] = 0
    """Pool rows without a stored label in a global batch, for consistency terms."""
    max_copies: Annotated[int, Field(ge=1, le=1000)] = 1
    """Rare pseudo-classes are repeated up to this often to match the largest; 1 repeats nothing."""

    @property
    def shared_rows(self) -> tuple[str, int]:
        """The rows of which every worker needs one: their source, and how many a batch has."""
        for name in ("labelled", "selected"):
            if rows := getattr(self, name):
                return name, rows
        return "pool", self.pool


@dataclass(frozen=True)
class Source:
    """Rows that a batch draws from, in the canonical order of their ids."""

    bank: Tensor
    """Images uint8 [M, C, H, W] or features float16 [M, D, 1, 1]; sources may share one bank."""
    rows: np.ndarray
    """Rows of the bank that belong to the source, int64 [N]."""
    targets: Tensor | None = None
    """Class indices int64 [N], or soft targets float32 [N, C]; None for unlabelled rows."""
    weights: Tensor | None = None
    """Weights float32 [N] in (0, 1]; None means 1."""

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, at: Sequence[int] | np.ndarray, device: torch.device) -> Tensor:
        """Images float32 [len(at), C, H, W] in [0, 1], or features, on ``device``."""
        places = torch.from_numpy(self.rows[np.asarray(at)])
        places = places.to(self.bank.device, non_blocking=True)
        return as_floats(self.bank[places].to(device, non_blocking=True))

    def target_mass(self, at: np.ndarray, num_classes: int, smoothing: float = 0.0) -> Tensor:
        """Weighted target distributions float32 [len(at), C]: a row sums to its weight."""
        if self.targets is None:
            raise ValueError("this source holds no targets")
        picked = self.targets[torch.from_numpy(at)]
        if picked.dtype == torch.int64:
            picked = torch.nn.functional.one_hot(picked, num_classes).float()
        if smoothing:
            picked = picked * (1 - smoothing) + smoothing / num_classes
        if self.weights is not None:
            picked = picked * self.weights[torch.from_numpy(at), None]
        return picked


@dataclass(frozen=True)
class TrainingSet:
    """Everything that one training step of a round may draw from."""

    labelled: Source
    selected: Source | None = None
    pool: Source | None = None
    labelled_told: Tensor | None = None
    """Classes that students which never saw them give the labelled rows, int64 [N]."""

    def near(self, device: torch.device) -> "TrainingSet":
        """The same rows, their images in the memory of the device if they fill little of it."""
        bank = self.labelled.bank
        if device.type == "cpu" or bank.nbytes > BANK_SHARE * torch.cuda.mem_get_info(device)[0]:
            return self
        moved = bank.to(device)
        shared = {
            name: replace(source, bank=moved)
            for name in ("labelled", "selected", "pool")
            if (source := getattr(self, name)) is not None and source.bank is bank
        }
        return replace(self, **shared)

    def shown(self, most: int, at_once: int, device: torch.device) -> Iterator[Tensor]:
        """Images of at most so many rows of the pool, evenly spaced, some at once.

        They are of the selection where no pool row is drawn, and none where neither is there.
        """
        source = self.pool or self.selected
        if source is None:
            return
        rows = np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.int64)
        for start in range(0, len(rows), at_once):
            yield source.images(rows[start : start + at_once], device)

    def class_rows(self, num_classes: int) -> np.ndarray:
        """Labelled rows of each class, int64 [C]."""
        assert self.labelled.targets is not None  # noqa: S101 - labelled rows have labels
        return np.bincount(self.labelled.targets.numpy(), minlength=num_classes)


def as_floats(stored: Tensor) -> Tensor:
    """Stored images uint8 as float32 in [0, 1]; stored features as float32."""
    values = stored.float()
    return values.div_(255) if stored.dtype == torch.uint8 else values


class Cycle:
    """An endless sequence over ``num_rows`` rows: one seeded permutation after the other."""

    def __init__(self, num_rows: int, per_step: int, seed: int, name: str) -> None:
        if num_rows < 1:
            raise ValueError(f"the {name} source is empty")
        self._num_rows, self._per_step = num_rows, per_step
        self._seed, self._name = seed, name
        self._passes: dict[int, np.ndarray] = {}

    def at(self, step: int) -> np.ndarray:
        """Positions int64 [B] that the global batch of ``step`` (0-based) holds."""
        places = step * self._per_step + np.arange(self._per_step)
        passes, within = np.divmod(places, self._num_rows)
        found = np.empty(self._per_step, np.int64)
        for number in np.unique(passes).tolist():
            mine = passes == number
            found[mine] = self._pass(number)[within[mine]]
        return found

    def _pass(self, number: int) -> np.ndarray:
        if number not in self._passes:
            self._passes = {k: v for k, v in self._passes.items() if k >= number - 1}
            stream = numpy_stream(self._seed, "order", self._name, number)
            self._passes[number] = stream.permutation(self._num_rows)
        return self._passes[number]


def repeat_rare(labels: np.ndarray, num_classes: int, max_copies: int, seed: int) -> np.ndarray:
    """Positions of rows with those of rare classes repeated, int64 [>= N].

    A class of n rows is repeated n_max / n times, at most ``max_copies``; fractional parts are
    rounded at random by the seed.

    Source: Xie et al., Self-training with Noisy Student, CVPR 2020, arXiv:1911.04252, section 2
    (data balancing); stochastic rounding as in the released filter.
    """
    counts = np.bincount(labels, minlength=num_classes)
    copies = np.minimum(counts.max() / np.maximum(counts, 1), max_copies)[labels]
    whole = np.floor(copies).astype(np.int64)
    whole += numpy_stream(seed, "copies").random(len(labels)) < copies - whole
    return np.repeat(np.arange(len(labels)), whole)
