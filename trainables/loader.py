"""Turns a step number into one worker's rows of the global batch, with views and target mass.

Legend: B rows of the global batch, b rows of this worker, C classes, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.augment import view_of
from trainables.batches import BatchPlan, Cycle, Source, TrainingSet
from trainables.heads import QUARTERS
from trainables.objective import Objective, mixed, one_hot
from trainables.randomness import derive, numpy_stream
from trainables.schedules import Moment
from trainables.worker import Worker

LABELLED, SELECTED, POOL, DEBIASING, SECOND, TURNED = 0, 1, 2, 3, 4, 5
"""What a row is trained as. Debiasing rows are labelled ones of a debiased consistency term; second
and turned rows are further views of the pool rows, which only auxiliary terms read."""


@dataclass(frozen=True)
class Rows:
    """Rows to train on."""

    images: Tensor
    """Views [b, C, H, W]."""
    mass: Tensor
    """Target mass [b, C]."""
    term: Tensor
    """Term that each row belongs to, int64 [b]; on the CPU, wherever the images are."""

    def joined(self, other: "Rows") -> "Rows":
        """These rows, then the others."""
        return Rows(
            torch.cat([self.images, other.images]),
            torch.cat([self.mass, other.mass]),
            torch.cat([self.term, other.term]),
        )


@dataclass(frozen=True)
class Pairs:
    """Rows in a weak and a strong view."""

    weak: Tensor
    """Views [b, C, H, W]."""
    strong: Tensor
    """Views [b, C, H, W]."""
    places: np.ndarray
    """Positions of the whole global batch in the source, int64 [B]."""


class Loader:
    """Turns a step number into this worker's rows of the global batch."""

    def __init__(
        self,
        plan: BatchPlan,
        goal: Objective,
        data: TrainingSet,
        num_classes: int,
        *,
        seed: int,
        worker: Worker,
        reads_pool: bool = True,
    ) -> None:
        self.data, self.plan, self._goal = data, plan, goal
        self.num_classes, self.seed, self.worker = num_classes, seed, worker
        features = data.labelled.bank.is_floating_point()
        self._views = {
            "weak": view_of(goal.weak, features=features),
            "strong": view_of(goal.strong, features=features),
        }
        self._labelled = Cycle(len(data.labelled), plan.labelled, seed, "labelled")
        self._selected = (
            Cycle(len(data.selected), plan.selected, seed, "selected") if data.selected else None
        )
        pool = data.pool if reads_pool else None
        self._pool = Cycle(len(pool), plan.pool, seed, "pool") if pool else None
        self.pool_rows = plan.pool if pool else 0
        of = goal.representation
        self._further = of.further_views if of is not None else ()
        self._labelled_views = plan.labelled * (2 if goal.labelled.view == "both" else 1)
        self.supervised_rows = self._labelled_views + (plan.selected if data.selected else 0)

    def supervised(self, moment: Moment) -> Rows:
        """This worker's labelled and selected rows, mixed if the objective mixes."""
        total, worker = self.supervised_rows, self.worker
        if not total:
            return self._no_rows()
        mine = worker.share_of(total)
        term = torch.from_numpy(np.where(mine < self._labelled_views, LABELLED, SELECTED))
        alpha = self._goal.mixup_alpha
        if not alpha:
            return Rows(*self._rows(mine, moment), term)
        stream = numpy_stream(self.seed, "mixup", moment.step)
        partner = stream.permutation(total)[mine]
        drawn = stream.beta(alpha, alpha, size=total)
        share = torch.from_numpy(np.maximum(drawn, 1 - drawn)[mine]).float()
        needed, where = np.unique(np.concatenate([mine, partner]), return_inverse=True)
        images, mass = self._rows(needed, moment)
        places = torch.from_numpy(where).to(images.device, non_blocking=True)
        own, other = places[: len(mine)], places[len(mine) :]
        share = share.to(images.device, non_blocking=True)
        return Rows(
            mixed(images[own], images[other], share), mixed(mass[own], mass[other], share), term
        )

    def _no_rows(self) -> Rows:
        images = self.data.labelled.images(np.zeros(0, np.int64), self.worker.device)
        return Rows(
            images,
            torch.zeros(0, self.num_classes, device=images.device),
            torch.zeros(0, dtype=torch.int64),
        )

    @property
    def images_per_step(self) -> int:
        """Rows of the global batch that are trained on."""
        return sum(self.rows_by_source()) + self.pool_rows * len(self._further)

    def rows_by_source(self) -> tuple[int, ...]:
        """Rows of the global batch that each source gives to a training pass."""
        term = self._goal.consistency
        debiasing = term is not None and term.debias and self.pool_rows
        return (self.supervised_rows, self.pool_rows, self.plan.labelled if debiasing else 0)

    def pool_pairs(self, step: int) -> Pairs:
        """Weak and strong views of this worker's pool rows.

        Raises:
            ValueError: There are no pool rows.
        """
        if self._pool is None or self.data.pool is None:
            raise ValueError("a consistency term needs pool rows: set training.batch.pool")
        return self._pairs("pool", self.data.pool, self._pool.at(step), step)

    def further_views(self, step: int) -> Rows:
        """The views of this worker's pool rows that auxiliary terms read, without mass.

        Raises:
            ValueError: No term reads any.
        """
        views = []
        if "second" in self._further:
            views.append((self.second_view(step), SECOND))
        if "turned" in self._further:
            view = self._pool_view("weak", "pool-turned", step)
            views.append((turned(view, self.quarters(step)), TURNED))
        if not views:
            raise ValueError("no auxiliary term reads a further view")
        terms = [torch.full((len(view),), term, dtype=torch.int64) for view, term in views]
        images = torch.cat([view for view, _ in views])
        return Rows(images, images.new_zeros(len(images), self.num_classes), torch.cat(terms))

    def quarters(self, step: int) -> Tensor:
        """Quarters that each turned view of this worker is turned by, int64 [b]; drawn by row."""
        drawn = numpy_stream(self.seed, "turns", step).integers(0, QUARTERS, self.pool_rows)
        mine = drawn[self.worker.share_of(self.pool_rows)]
        return torch.from_numpy(mine).to(self.worker.device)

    def second_view(self, step: int) -> Tensor:
        """Another strong view of this worker's pool rows [b, C, H, W]."""
        return self._pool_view("strong", "pool-second", step)

    def _pool_view(self, view: str, name: str, step: int) -> Tensor:
        assert self._pool is not None  # noqa: S101 - such views are read beside the pool's pairs
        assert self.data.pool is not None  # noqa: S101 - such steps have a pool
        mine = self.worker.share_of(self.pool_rows)
        return self._view(view, self.data.pool, name, step, self._pool.at(step)[mine], mine)

    def labelled_pairs(self, step: int) -> tuple[Pairs, np.ndarray]:
        """Weak and strong views of this worker's labelled rows, and all rows' labels int64 [B]."""
        places = self._labelled.at(step)
        return self._pairs("labelled", self.data.labelled, places, step), self.labels(step)

    def pool_views(self, step: int, rows: np.ndarray) -> Tensor:
        """Strong views [len(rows), C, H, W] of these pool rows of the global batch."""
        assert self._pool is not None and self.data.pool is not None  # noqa: S101 - rows of it
        at = self._pool.at(step)[rows]
        return self._view("strong", self.data.pool, "pool-strong", step, at, rows)

    def labelled_views(self, step: int, rows: np.ndarray) -> Tensor:
        """Strong views [len(rows), C, H, W] of these labelled rows of the global batch."""
        at = self._labelled.at(step)[rows]
        return self._view("strong", self.data.labelled, "labelled-strong", step, at, rows)

    def labels(self, step: int) -> np.ndarray:
        """Classes of the labelled rows of the global batch, int64 [B]."""
        assert self.data.labelled.targets is not None  # noqa: S101 - labelled rows have labels
        return self.data.labelled.targets[torch.from_numpy(self._labelled.at(step))].numpy()

    def _pairs(self, name: str, source: Source, places: np.ndarray, step: int) -> Pairs:
        mine = self.worker.share_of(len(places))
        at = places[mine]
        weak = self._view("weak", source, f"{name}-weak", step, at, mine)
        strong = self._view("strong", source, f"{name}-strong", step, at, mine)
        return Pairs(weak, strong, places)

    def _rows(self, rows: np.ndarray, moment: Moment) -> tuple[Tensor, Tensor]:
        """Views and target mass of the given rows of the global supervised batch."""
        parts = []
        if self._labelled_views:
            parts.append(self._labelled_rows(rows[rows < self._labelled_views], moment))
        if self._selected is not None:
            second = rows[rows >= self._labelled_views] - self._labelled_views
            parts.append(self._selected_rows(second, moment))
        images, mass = (torch.cat(each) for each in zip(*parts, strict=True))
        return images, mass.to(images.device, non_blocking=True)

    def _labelled_rows(self, rows: np.ndarray, moment: Moment) -> tuple[Tensor, Tensor]:
        plan, term, source = self.plan, self._goal.labelled, self.data.labelled
        at = self._labelled.at(moment.step)[rows % plan.labelled]
        if term.view == "both":
            weak = rows < plan.labelled
            parts = [
                self._view(view, source, f"labelled-{view}", moment.step, at[mine], places)
                for view, mine, places in (
                    ("weak", weak, rows[weak]),
                    ("strong", ~weak, rows[~weak] - plan.labelled),
                )
            ]
            images = torch.cat(parts)
        else:
            images = self._view(term.view, source, "labelled", moment.step, at, rows)
        mass = source.target_mass(at, self.num_classes, term.label_smoothing)
        robust = self._goal.doubly_robust
        if robust is not None and self.data.selected is not None:
            mass = self._corrected(mass, at, moment.value(robust.alpha))
        return images, mass * (moment.value(term.weight) / self._labelled_views)

    def _corrected(self, mass: Tensor, at: np.ndarray, alpha: float) -> Tensor:
        """Doubly robust mass of labelled rows: pseudo-labels, and alpha times what they miss."""
        if self.data.labelled_told is None:
            raise ValueError("a doubly robust loss needs pseudo-labels of the labelled rows")
        told = one_hot(self.data.labelled_told[torch.from_numpy(at)], self.num_classes)
        return told * (1 - self._selected_share()) + alpha * (mass - told)

    def _selected_share(self) -> float:
        """Share of the selected rows among all rows with a label of any kind."""
        selected = len(self.data.selected) if self.data.selected else 0
        return selected / (len(self.data.labelled) + selected)

    def _selected_rows(self, rows: np.ndarray, moment: Moment) -> tuple[Tensor, Tensor]:
        term, source = self._goal.selected, self.data.selected
        assert source is not None  # noqa: S101 - the caller checked
        assert self._selected is not None  # noqa: S101 - the caller checked
        drawn = self._selected.at(moment.step)
        at = drawn[rows]
        images = self._view(term.view, source, "selected", moment.step, at, rows)
        whole = float(self.plan.selected)
        if term.normalise == "weight_mass" and source.weights is not None:
            whole = float(source.weights[torch.from_numpy(drawn)].sum())
        share = self._selected_share() if self._goal.doubly_robust is not None else 1.0
        weight = moment.value(term.weight) * share / whole
        return images, source.target_mass(at, self.num_classes) * weight

    def _view(
        self,
        view: str,
        source: Source,
        name: str,
        step: int,
        at: Sequence[int] | np.ndarray,
        rows: np.ndarray,
    ) -> Tensor:
        images = source.images(at, self.worker.device)
        kind = name.partition("-")[0]
        of = {"labelled": self.plan.labelled, "selected": self.plan.selected}.get(
            kind, self.plan.pool
        )
        seed = derive(self.seed, "view", name, step)
        return self._views[view](images, seed=seed, rows=rows.tolist(), of=of)


def turned(images: Tensor, quarters: Tensor) -> Tensor:
    """Images [b, C, H, W], each turned left by its number of quarters [b]."""
    found = images.clone()
    for number in range(1, QUARTERS):
        found[quarters == number] = torch.rot90(images[quarters == number], number, (2, 3))
    return found
