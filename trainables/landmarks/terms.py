"""The loss of rows whose points are known: heatmaps, centre and offsets.

Legend: b rows of this worker, K points, h and w sides of the maps.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainables.landmarks.encode import centre_map, centre_of, gaussians, offsets_at
from trainables.landmarks.losses import focal_centre_loss, heatmap_loss, offset_loss
from trainables.landmarks.network import Maps
from trainables.landmarks.rows import KnownBatch
from trainables.landmarks.settings import LandmarkObjective
from trainables.schedules import Moment
from trainables.worker import Worker


@dataclass(frozen=True)
class KnownTerms:
    """Terms of known points; each is this worker's share of a mean over the rows of all workers."""

    objective: LandmarkObjective
    stride: int
    worker: Worker

    def of(self, maps: Maps, batch: KnownBatch, moment: Moment) -> dict[str, Tensor]:
        """Terms by name, weighted."""
        goal, labelled = self.objective, batch.is_labelled
        ours = _rows(maps, labelled)
        points, weight = batch.points[labelled], batch.weight[labelled]
        terms = {"heat": self.heat(ours.heat, points, weight, over="known")}
        terms |= self._centred(ours, points, moment)
        if batch.has_selected:
            theirs = _rows(maps, ~labelled)
            points, weight = batch.points[~labelled], batch.weight[~labelled]
            share = moment.value(goal.selected)
            # over all points, so that a batch of few trusted ones counts little
            terms["selected"] = share * self.heat(theirs.heat, points, weight)
            for name, value in self._centred(theirs, points, moment).items():
                terms[name] = terms[name] + share * value
        return terms

    def heat(
        self, logits: Tensor, points: Tensor, weight: Tensor, over: Literal["all", "known"] = "all"
    ) -> Tensor:
        """Mean divergence of the softmaxed heatmaps [b, K, h, w] from Gaussians around points.

        The mean is over all points of the batch or, with ``over`` 'known', those of some weight.
        """
        size = (logits.shape[2], logits.shape[3])
        target, known = gaussians(points, size, self.stride, self.objective.sigma_px)
        total, _ = heatmap_loss(logits, target, weight * known)
        count = (weight > 0).sum() if over == "known" else torch.tensor(weight.numel())
        return total / self.of_all(count.to(total))

    def _centred(self, maps: Maps, points: Tensor, moment: Moment) -> dict[str, Tensor]:
        """The centre's and the offsets' terms."""
        size = (maps.centre.shape[2], maps.centre.shape[3])
        centre = centre_of(points, None)
        target = centre_map(centre, size, self.stride, self.objective.sigma_px)
        found, centres = focal_centre_loss(maps.centre, target)
        wanted, cell = offsets_at(points, centre, size, self.stride)
        apart, count = offset_loss(maps.offsets, wanted, cell)
        return {
            "centre": moment.value(self.objective.centre) * found / self.of_all(centres),
            "offset": moment.value(self.objective.offset) * apart / self.of_all(count),
        }

    def of_all(self, count: Tensor) -> Tensor:
        """The count over all workers, at least 1."""
        return self.worker.total(count.detach().float()).clamp(min=1)


def _rows(maps: Maps, which: Tensor) -> Maps:
    return Maps(*(values[which] for values in maps))
