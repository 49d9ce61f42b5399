"""Points out of maps that a network writes.

A cell of a map covers ``stride`` pixels of the image: cell x lies at (x + 0.5) * stride - 0.5.

Legend: B rows, K points, h x w cells, n candidates; the last 2 are (x, y) in pixels of the image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Found:
    """Points, and how the map that each was found in looks."""

    points: Tensor
    """Pixels of the image, float32 [B, K, 2]; gradients flow through them."""
    peak: Tensor
    """Share of the map's mass that lies in the window around the point, [B, K]."""
    spread: Tensor
    """Root of the mean squared distance of the map's mass from the point, in pixels [B, K]."""


def probabilities(logits: Tensor) -> Tensor:
    """Maps [B, K, h, w] that sum to 1 over their cells, float32."""
    return logits.float().flatten(2).softmax(dim=2).view(logits.shape)


def peaks(logits: Tensor, stride: float, window: int = 5) -> Found:
    """The mean place of each map's mass within ``window`` x ``window`` cells around its peak.

    Cells of the window beyond the border count nothing. A blob is drawn to the peak's cell as far
    as it reaches beyond the window: by less than 0.05 cells for a Gaussian of up to window / 5
    cells. The peak's cell passes no gradient on, the mean does.

    Raises:
        ValueError: ``window`` is not odd and positive.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window is {window}, and must be odd and positive")
    maps = probabilities(logits)
    high, wide = maps.shape[2:]
    at = maps.detach().flatten(2).argmax(dim=2)
    across, down = (torch.arange(side, device=maps.device) for side in (wide, high))
    near = [  # [B, K, w] and [B, K, h]
        (cells - centre[..., None]).abs() <= window // 2
        for cells, centre in ((across, at % wide), (down, at // wide))
    ]
    local = maps * near[0][:, :, None, :] * near[1][..., None]
    mass = local.sum(dim=(2, 3))
    mean = torch.stack([local.sum(2) @ across.float(), local.sum(3) @ down.float()], dim=2)
    cell = mean / mass[..., None]
    x, y = cell.detach().unbind(dim=2)
    with torch.no_grad():
        wander = (maps.sum(2) * (across - x[..., None]).square()).sum(2)
        wander = wander + (maps.sum(3) * (down - y[..., None]).square()).sum(2)
    return Found(in_image(cell, stride), mass.detach().clamp(max=1), stride * wander.sqrt())


def in_image(cells: Tensor, stride: float) -> Tensor:
    """Pixels of the image at which places of a map, in cells, lie."""
    return (cells + 0.5) * stride - 0.5


def centre_candidates(
    centre_logits: Tensor, offsets: Tensor, stride: float, top: int = 32
) -> Tensor:
    """What the cells with the largest centre logits [B, 1, h, w] say of all points, [B, n, K, 2].

    ``offsets`` [B, 2K, h, w] are (x, y) of one point after the other, in strides from the cell. n
    is ``top``, or all cells if there are fewer; the likeliest comes first. Source: Zhou et al.,
    Objects as points, 2019, arXiv:1904.07850, section 4. Departs from the paper: cells beside a
    peak are not suppressed.
    """
    rows, channels, high, wide = offsets.shape
    flat = centre_logits.flatten(1)
    at = flat.topk(min(top, high * wide), dim=1).indices  # [B, n]
    index = at[:, None].expand(-1, channels, -1)
    steps = offsets.flatten(2).gather(2, index).float()  # [B, 2K, n]
    steps = steps.view(rows, channels // 2, 2, at.shape[1]).permute(0, 3, 1, 2)
    cells = torch.stack([at % wide, at // wide], dim=2).float()
    return in_image(cells[:, :, None] + steps, stride)


def nearest_candidate(candidates: Tensor, to: Tensor) -> Tensor:
    """Of candidates [B, n, K, 2] the one whose points lie nearest to ``to``, all of it [B, K, 2].

    Distances are root sums of squares over the points that are known in ``to`` [B, K, 2]; of equal
    ones, and where none is known, the first counts.
    """
    away = (candidates - to[:, None]).square().sum(dim=3).nan_to_num(nan=0.0).sum(dim=2)
    index = away.argmin(dim=1)
    return candidates[torch.arange(len(candidates), device=candidates.device), index]


def fuse(track: Tensor, detect: Tensor, share: float | Tensor) -> Tensor:
    """Points [B, K, 2] that are ``share`` of ``track`` and the rest of ``detect``.

    Where one is unknown the other counts alone.
    """
    mixed = share * track + (1 - share) * detect
    return torch.where(track.isnan(), detect, torch.where(detect.isnan(), track, mixed))
