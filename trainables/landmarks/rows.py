"""Rows with points: what a landmark training draws from, and its batches as one worker sees them.

Legend: N rows of a source, B rows of it in the global batch, b rows of this worker, K points.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.augment import View
from trainables.batches import Cycle, as_floats
from trainables.landmarks.flow import tracked
from trainables.landmarks.geometry import dropped_outside, moved, renamed, warped
from trainables.landmarks.settings import LandmarkTraining
from trainables.randomness import derive, numpy_stream
from trainables.worker import Worker


@dataclass(frozen=True)
class PointRows:
    """Rows that a batch draws from, in the canonical order of their ids."""

    bank: Tensor
    """Images uint8 [M, C, H, W]; sources share one bank."""
    rows: np.ndarray
    """Rows of the bank that belong to the source, int64 [N]."""
    points: Tensor | None = None
    """Known points float32 [N, K, 2] in pixels of the bank's images, NaN where unknown."""
    weights: Tensor | None = None
    """Weights float32 [N, K] in [0, 1]; None means 1."""

    def __len__(self) -> int:
        return len(self.rows)

    def stored(self, at: np.ndarray) -> Tensor:
        """Images uint8 [len(at), C, H, W]."""
        return self.bank[torch.from_numpy(self.rows[at])]


@dataclass(frozen=True)
class PointSet:
    """Everything that one landmark training of a round may draw from."""

    labelled: PointRows
    selected: PointRows | None = None
    pool: PointRows | None = None
    neighbours: np.ndarray | None = None
    """Rows of the bank that show the frames around each pool row's, int64 [N, 2 * reach]; -1 where
    the clip has none."""


@dataclass(frozen=True)
class KnownBatch:
    """Rows whose points are known, in a view."""

    images: Tensor
    """Views [b, C, H, W]."""
    points: Tensor
    """Where their points lie in the view, [b, K, 2]; NaN where unknown or outside."""
    weight: Tensor
    """How much each point counts, [b, K]; 0 where it is unknown."""
    is_labelled: Tensor
    """Whether a row is labelled, else it is pseudo-labelled, bool [b]."""
    has_selected: bool = False
    """Whether the batch of all workers has pseudo-labelled rows; this worker's may have none."""


@dataclass(frozen=True)
class TwoViews:
    """Pool rows in two views."""

    weak: Tensor
    """Views [b, C, H, W]."""
    strong: Tensor
    """Views [b, C, H, W]."""
    to_strong: Tensor
    """From pixels of the weak view to those of the strong one, [b, 3, 3]."""


@dataclass(frozen=True)
class Frames:
    """Pool rows, and for each a second image in the same pixels: a neighbour or a second view."""

    images: Tensor
    """Views [b, C, H, W]."""
    beside: Tensor
    """The second images [b, C, H, W]."""


class PointLoader:
    """Turns a step number into this worker's rows of the global batch."""

    def __init__(
        self,
        spec: LandmarkTraining,
        data: PointSet,
        mirrored: tuple[int, ...],
        *,
        seed: int,
        worker: Worker,
    ) -> None:
        self._spec, self._data, self._mirrored = spec, data, mirrored
        self._seed, self._worker = seed, worker
        plan, goal = spec.batch, spec.objective
        self._labelled = Cycle(len(data.labelled), plan.labelled, seed, "labelled")
        self._selected, self._pool = None, None
        if data.selected is not None:
            self._selected = Cycle(len(data.selected), plan.selected, seed, "selected")
        if data.pool is not None:
            self._pool = Cycle(len(data.pool), plan.pool, seed, "pool")
        self._views = {"labelled": View(goal.labelled_view), "selected": View(goal.selected_view)}
        if spec.consistency is not None:
            self._views |= {
                "weak": View(spec.consistency.weak),
                "strong": View(spec.consistency.strong),
            }
        if spec.two_sources is not None:
            self._views |= {
                "frame": View(spec.two_sources.view),
                "second": View(spec.two_sources.second),
            }

    @property
    def images_per_step(self) -> int:
        """Images that a step trains on, those of all workers."""
        plan, views = self._spec.batch, 2 if self._spec.two_sources is not None else 1
        pool = plan.pool * views if self._pool else 0
        return plan.labelled + (plan.selected if self._selected else 0) + pool

    def known(self, step: int) -> KnownBatch:
        """The step's labelled and selected rows."""
        parts = [self._known("labelled", self._labelled, self._data.labelled, step)]
        if self._selected is not None and self._data.selected is not None:
            parts.append(self._known("selected", self._selected, self._data.selected, step))
        labelled = torch.cat([torch.full((len(p[0]),), i == 0) for i, p in enumerate(parts)])
        images, points, weight = (torch.cat(each) for each in zip(*parts, strict=True))
        return KnownBatch(images, points, weight, labelled.to(images.device), len(parts) > 1)

    def _known(
        self, name: str, order: Cycle, source: PointRows, step: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert source.points is not None  # noqa: S101 - rows of known points
        places, mine = order.at(step), self._worker.share_of(self._plan(name))
        at = places[mine]
        images, matrices = self._view(name, source.stored(at), step, mine, len(places))
        picked = torch.from_numpy(at)
        points = moved(source.points[picked].to(images.device), matrices, self._mirrored)
        points = dropped_outside(points, (images.shape[2], images.shape[3]))
        weight = torch.ones(points.shape[:2], device=points.device)
        if source.weights is not None:
            kept = source.weights[picked].to(points.device)
            weight = renamed(kept, matrices, self._mirrored)
        return images, points, weight.where(points.isfinite().all(dim=2), 0)

    def two_views(self, step: int) -> TwoViews:
        """The step's pool rows for a consistency term."""
        at, mine, total = self._drawn(step)
        assert self._data.pool is not None  # noqa: S101 - a pool was drawn from
        stored = self._data.pool.stored(at)
        weak, to_weak = self._view("weak", stored, step, mine, total)
        strong, to_strong = self._view("strong", stored, step, mine, total)
        return TwoViews(weak, strong, to_strong @ torch.linalg.inv(to_weak))

    def frames(self, step: int) -> Frames:
        """The step's pool rows with what stands beside each.

        A neighbour frame is moved onto the row's own by optical flow, then both are shown alike; a
        row without neighbours has a second view instead, moved back onto the first.
        """
        at, mine, total = self._drawn(step)
        pool = self._data.pool
        assert pool is not None  # noqa: S101 - a pool was drawn from
        stored = pool.stored(at)
        images, to_frame = self._view("frame", stored, step, mine, total)
        near = self._neighbours(at, step, mine, total)
        moved_on = stored.clone()
        for place, row in enumerate(near.tolist()):
            if row >= 0:
                found = tracked(stored[place].numpy(), pool.bank[row].numpy())
                moved_on[place] = torch.from_numpy(found)
        beside, _ = self._view("frame", moved_on, step, mine, total)
        still = torch.from_numpy(near < 0).to(images.device)
        if bool(still.any()):
            second, to_second = self._view("second", stored, step, mine, total)
            back = warped(second, to_frame @ torch.linalg.inv(to_second))
            beside = torch.where(still[:, None, None, None], back, beside)
        return Frames(images, beside)

    def _neighbours(self, at: np.ndarray, step: int, mine: np.ndarray, total: int) -> np.ndarray:
        """A row of the bank beside each pool row, int64 [b]; -1 where there is none."""
        known = self._data.neighbours
        if known is None or not known.shape[1]:
            return np.full(len(at), -1)
        lots = numpy_stream(self._seed, "neighbour", step).random((total, known.shape[1]))[mine]
        lots[known[at] < 0] = -1.0
        return np.asarray(known[at, lots.argmax(axis=1)])

    def _drawn(self, step: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Positions of this worker's pool rows, their places in the global batch, its size."""
        assert self._pool is not None  # noqa: S101 - the settings read the pool
        mine = self._worker.share_of(self._spec.batch.pool)
        places = self._pool.at(step)
        return places[mine], mine, len(places)

    def _plan(self, name: str) -> int:
        return int(getattr(self._spec.batch, name))

    def _view(
        self, name: str, stored: Tensor, step: int, rows: np.ndarray, of: int
    ) -> tuple[Tensor, Tensor]:
        images = as_floats(stored.to(self._worker.device, non_blocking=True))
        seed = derive(self._seed, name, step)
        return self._views[name].with_geometry(images, seed=seed, rows=rows.tolist(), of=of)
