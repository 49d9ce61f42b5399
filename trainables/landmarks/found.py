"""What a landmark network finds in a block of images, with how sure it is of each point.

Legend: N images, K points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainables.batches import as_floats
from trainables.landmarks.decode import centre_candidates, fuse, nearest_candidate, peaks
from trainables.landmarks.geometry import to_image
from trainables.landmarks.network import LandmarkNetwork, maps_of
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


@dataclass(frozen=True)
class Asked:
    """How a network is asked for points."""

    tracking: float = 1.0
    """Share of the heatmap's points in the label; the rest is detection's."""
    flips: bool = False
    """Whether the mirror image is asked as well."""
    candidates: int = 32
    """Cells of the centre map that are decoded."""
    precision: Precision = "float32"
    sigma_px: float = 3.0
    """Distance of heatmap and detection, in pixels of the network's input, that counts as one."""


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
    for at in range(0, len(pixels), rows_per_pass):
        images = as_floats(torch.from_numpy(pixels[at : at + rows_per_pass]).to(device))
        images = images.contiguous(memory_format=torch.channels_last)
        told = _ask(network, images, asked)
        if asked.flips:
            told = _mean(told, _ask(network, images.flip(3), asked), images.shape[3], mirrored)
        found, detected, peak, spread = told
        frame = torch.from_numpy(frames[at : at + rows_per_pass]).to(device)
        apart = (found - detected).square().sum(dim=2)
        agreement = torch.exp(-apart / (2 * asked.sigma_px**2))
        points = to_image(fuse(found, detected, asked.tracking), frame)
        scale = frame[:, :1]
        told = (points, to_image(detected, frame), peak, spread / scale, agreement)
        parts.append(tuple(each.float().cpu() for each in told))
    if not parts:
        num = len(mirrored)
        pairs, singles = np.zeros((0, num, 2), np.float32), np.zeros((0, num), np.float32)
        return FoundPoints(pairs, pairs, singles, singles, singles)
    return FoundPoints(*(torch.cat(each).numpy() for each in zip(*parts, strict=True)))


def _ask(network: LandmarkNetwork, images: Tensor, asked: Asked) -> tuple[Tensor, ...]:
    """Points by heatmap, by detection, peaks and spreads."""
    with autocast(asked.precision, images.device):
        maps = maps_of(network, images)
    found = peaks(maps.heat.float(), network.stride)
    candidates = centre_candidates(
        maps.centre.float(), maps.offsets.float(), network.stride, top=asked.candidates
    )
    return found.points, nearest_candidate(candidates, found.points), found.peak, found.spread


def _mean(
    one: tuple[Tensor, ...], other: tuple[Tensor, ...], width: int, mirrored: Sequence[int]
) -> tuple[Tensor, ...]:
    """The mean of what an image and its mirror image tell; the latter's points change names."""
    order = torch.tensor(list(mirrored))
    back = []
    for values in other:
        named = values[:, order]
        if named.ndim == 3:
            named = torch.stack([width - 1 - named[..., 0], named[..., 1]], dim=2)
        back.append(named)
    return tuple((a + b) / 2 for a, b in zip(one, back, strict=True))
