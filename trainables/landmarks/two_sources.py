"""One step of teacher-student asynchronous learning: sources, their fusion, terms, the exchange.

Legend: b rows of this worker, K points, h and w sides of the maps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.landmarks.decode import (
    centre_candidates,
    fuse,
    nearest_candidate,
    peaks,
    probabilities,
)
from trainables.landmarks.geometry import inside
from trainables.landmarks.losses import heatmap_distance, structure_loss
from trainables.landmarks.network import LandmarkNetwork, Maps, maps_of
from trainables.landmarks.rows import Frames
from trainables.landmarks.settings import TwoSources
from trainables.landmarks.terms import KnownTerms
from trainables.schedules import Moment
from trainables.teachers import Snapshots


@dataclass(frozen=True)
class Fused:
    """Points that two sources give together."""

    points: Tensor
    """Where they lie, [b, K, 2]; NaN where no source is sure."""
    weight: Tensor
    """1 where a point is to be learned, else 0, [b, K]."""
    peak: Tensor
    """How sure tracking is of each point, [b, K]."""


@dataclass(frozen=True)
class TwoSourceStep:
    """One step of both networks."""

    spec: TwoSources
    known: KnownTerms
    moment: Moment

    def fused(self, network: nn.Module, frames: Frames) -> Fused:
        """Points by tracking and by detection together, as the asked network finds them."""
        spec = self.spec
        assert isinstance(network, LandmarkNetwork)  # noqa: S101 - the task built it
        network.eval()
        here, beside = maps_of(network, frames.images), maps_of(network, frames.beside)
        tracked = peaks(beside.heat, network.stride)
        candidates = centre_candidates(
            here.centre, here.offsets, network.stride, top=spec.candidates
        )
        detected = nearest_candidate(candidates, tracked.points)
        points = fuse(tracked.points, detected, self.moment.value(spec.tracking))
        sure = tracked.peak >= self.moment.value(spec.threshold)
        return Fused(points, sure.to(points), tracked.peak)

    def learned(self, fused: Fused, frames: Frames) -> Tensor:
        """Which points the radical network learns, bool [b, K]; no heatmap shows one outside."""
        sure = fused.weight > 0
        if self.spec.learns == "points":
            return sure
        return sure & inside(fused.points, (frames.images.shape[2], frames.images.shape[3]))

    def radical(self, here: Maps, fused: Fused) -> dict[str, Tensor]:
        """What the radical network learns: the fused points."""
        if self.spec.learns == "heatmaps":
            value = self.known.heat(here.heat, fused.points, fused.weight)
        else:
            found = peaks(here.heat, self.known.stride).points
            apart = nn.functional.smooth_l1_loss(
                found / self.known.stride, fused.points / self.known.stride, reduction="none"
            )
            counted = apart.sum(dim=2) * fused.weight
            value = self._mean(counted.sum(), torch.ones_like(counted).sum())
        return {"points": self.moment.value(self.spec.weight) * value}

    def calm(self, here: Maps, beside: Maps) -> dict[str, Tensor]:
        """What the calm network learns: heatmaps and structure that do not change at once."""
        stride, weight = self.known.stride, self.moment.value(self.spec.weight)
        sigma = self.known.objective.sigma_px / stride
        ones = here.heat.new_ones(here.heat.shape[:2])
        maps = (probabilities(here.heat), probabilities(beside.heat))
        apart = self._mean(*heatmap_distance(*maps, sigma, ones))
        points = (peaks(here.heat, stride).points, peaks(beside.heat, stride).points)
        extents = self._mean(*structure_loss(*points, stride * here.heat.shape[3]))
        return {
            "agreement": weight * self.moment.value(self.spec.heat) * apart,
            "structure": weight * self.moment.value(self.spec.structure) * extents,
        }

    @torch.no_grad()
    def exchange(self, calm: nn.Module, radical: nn.Module, snapshots: Snapshots) -> None:
        """Let each network absorb the other: the calm one first, then the radical one."""
        spec = self.spec
        if self.moment.step % spec.every:
            return
        theirs = radical.state_dict()
        if spec.queue > 1:
            theirs = theirs | snapshots.push(theirs, spec.queue)
        if spec.calm_rate is not None:
            _absorb(calm, theirs, spec.calm_rate)
        if spec.radical_rate is not None:
            _absorb(radical, calm.state_dict(), spec.radical_rate)

    def _mean(self, total: Tensor, count: Tensor) -> Tensor:
        """This worker's share of the mean over what all workers count."""
        return total / self.known.of_all(count)


def _absorb(network: nn.Module, other: dict[str, Tensor], rate: float) -> None:
    """Keep ``rate`` of the network's own weights and take the rest from the other's."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(other[name].to(value), 1 - rate)
