"""What a landmark network finds in a block of images, with how sure it is of each point.

Legend: N images, K points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trainables.augment import PLAIN, View, ViewSpec
from trainables.batches import as_floats
from trainables.landmarks.decode import centre_candidates, fuse, nearest_candidate, peaks
from trainables.landmarks.geometry import inside, moved, renamed, to_image
from trainables.landmarks.network import LandmarkNetwork, maps_of
from trainables.randomness import derive
from trainables.update import Precision, autocast


@dataclass(frozen=True)
class FoundPoints:
    """Points of a block of images; pixels are those of the stored images."""

    points: np.ndarray
    """Labels float32 [N, K, 2]."""
    detection: np.ndarray
    """Points by the centre branch alone, float32 [N, K, 2]."""
    peak: np.ndarray
    """Mass of each heatmap at its peak, float32 [N, K] in [0, 1]."""
    spread: np.ndarray
    """Root mean squared distance of each heatmap's mass from the point, in pixels, [N, K]."""
    agreement: np.ndarray
    """exp(-d^2 / 2 sigma^2) of the distance d of heatmap and detection, float32 [N, K]."""
    consistency: np.ndarray
    """The same of the root mean squared distance of the views' points from their median; NaN where
    fewer than two views show the point, float32 [N, K]."""


@dataclass(frozen=True)
class Asked:
    """How a network is asked for points."""

    tracking: float = 1.0
    """Share of the heatmap's points in the label; the rest is detection's."""
    flips: bool = False
    """Whether the mirror image is asked as well."""
    views: int = 1
    """Views that are asked: the image itself, then views drawn by ``view``."""
    view: ViewSpec = PLAIN
    """A view is drawn once, and moves all images alike: no row's label depends on the others."""
    candidates: int = 32
    """Cells of the centre map that are decoded."""
    precision: Precision = "float32"
    sigma_px: float = 3.0
    """Distance in pixels of the network's input that counts as one, in agreement and
    consistency."""


class _Told(NamedTuple):
    """What is told of a block of views, in pixels of the network's input."""

    points: Tensor
    detection: Tensor
    peak: Tensor
    spread: Tensor


@torch.inference_mode()
def find(
    network: nn.Module,
    pixels: np.ndarray,
    frames: np.ndarray,
    asked: Asked,
    mirrored: Sequence[int],
    *,
    rows_per_pass: int,
    device: torch.device,
) -> FoundPoints:
    """Points of images uint8 [N, C, H, W]; ``frames`` [N, 3] place them in the stored images."""
    assert isinstance(network, LandmarkNetwork)  # noqa: S101 - the task built it
    parts: list[tuple[Tensor, ...]] = []
    view = View(asked.view)
    shown = (pixels.shape[2], pixels.shape[3])
    for at in range(0, len(pixels), rows_per_pass):
        images = as_floats(torch.from_numpy(pixels[at : at + rows_per_pass]).to(device))
        told = [_ask(network, images, asked, mirrored)]
        for number in range(1, asked.views):
            drawn, matrices = view.with_geometry(
                images, seed=derive(0, "view", number), rows=[0] * len(images), of=1
            )
            seen = _ask(network, drawn, asked, mirrored)
            there = moved(told[0].points, matrices, mirrored)
            outside = ~renamed(inside(there, shown), matrices, mirrored)
            told.append(_back(seen, matrices, mirrored, outside))
        found, apart = _together(told)
        frame = torch.from_numpy(frames[at : at + rows_per_pass]).to(device)
        away = (found.points - found.detection).square().sum(dim=2)
        agreement, consistency = (torch.exp(-d / (2 * asked.sigma_px**2)) for d in (away, apart))
        points = to_image(fuse(found.points, found.detection, asked.tracking), frame)
        detection, spread = to_image(found.detection, frame), found.spread / frame[:, :1]
        part = (points, detection, found.peak, spread, agreement, consistency)
        parts.append(tuple(each.float().cpu() for each in part))
    if not parts:
        num = len(mirrored)
        pairs, singles = np.zeros((0, num, 2), np.float32), np.zeros((0, num), np.float32)
        return FoundPoints(pairs, pairs, singles, singles, singles, singles)
    return FoundPoints(*(torch.cat(each).numpy() for each in zip(*parts, strict=True)))


def _ask(network: LandmarkNetwork, images: Tensor, asked: Asked, mirrored: Sequence[int]) -> _Told:
    """What one view tells, with its mirror image if that is asked."""
    images = images.contiguous(memory_format=torch.channels_last)
    told = _ask_once(network, images, asked)
    if not asked.flips:
        return told
    over = torch.diag(torch.tensor([-1.0, 1.0, 1.0], device=images.device))
    over[0, 2] = images.shape[3] - 1
    other = _ask_once(network, images.flip(3), asked)
    return _together([told, _back(other, over.expand(len(images), 3, 3), mirrored)])[0]


def _ask_once(network: LandmarkNetwork, images: Tensor, asked: Asked) -> _Told:
    with autocast(asked.precision, images.device):
        maps = maps_of(network, images)
    found = peaks(maps.heat.float(), network.stride)
    candidates = centre_candidates(
        maps.centre.float(), maps.offsets.float(), network.stride, top=asked.candidates
    )
    return _Told(
        found.points, nearest_candidate(candidates, found.points), found.peak, found.spread
    )


def _back(
    seen: _Told, matrices: Tensor, mirrored: Sequence[int], outside: Tensor | None = None
) -> _Told:
    """What views tell, in pixels of their images, from which ``matrices`` [B, 3, 3] led to them.

    Points ``outside`` [B, K] of a view are unknown there.
    """
    back = torch.linalg.inv(matrices)
    points, detection = (moved(p, back, mirrored) for p in (seen.points, seen.detection))
    peak, spread = (renamed(v, back, mirrored) for v in (seen.peak, seen.spread))
    size = matrices[:, :2, :2].det().abs().sqrt()[:, None]
    if outside is not None:
        points, detection = (
            p.masked_fill(outside[..., None], torch.nan) for p in (points, detection)
        )
        peak, spread = (v.masked_fill(outside, torch.nan) for v in (peak, spread))
    return _Told(points, detection, peak, spread / size)


def _together(told: Sequence[_Told]) -> tuple[_Told, Tensor]:
    """The median of each number over views, and the points' mean squared distance from it [B, K].

    The median, since some views show a point elsewhere altogether; of two it is the mean. The
    distance is NaN where fewer than two views tell a point.
    """
    parts = (torch.stack(each) for each in zip(*told, strict=True))
    median = _Told(*(each.nanquantile(0.5, dim=0) for each in parts))
    apart = torch.stack([(each.points - median.points).square().sum(dim=2) for each in told])
    compared = apart.isfinite().sum(dim=0) > 1
    return median, apart.nanmean(dim=0).where(compared, torch.nan)
