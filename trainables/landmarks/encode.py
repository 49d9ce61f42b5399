"""Maps that a network is taught to write for points.

A cell of a map covers ``stride`` pixels of the image: cell x lies at (x + 0.5) * stride - 0.5.

Legend: B rows, K points, h x w cells; the last 2 are (x, y) in pixels of the image, NaN where
unknown.
"""

import torch
from torch import Tensor

from trainables.landmarks.geometry import Size, inside, known


def gaussians(points: Tensor, size: Size, stride: float, sigma_px: float) -> tuple[Tensor, Tensor]:
    """Gaussian maps [B, K, h, w] that sum to 1 over their cells, and which points have one [B, K].

    ``sigma_px`` is the standard deviation in pixels. Points [B, K, 2] that are unknown, or lie
    beyond the map, have zeros.
    """
    has = inside(in_cells(points, stride), size)
    place = torch.where(has[..., None], points, 0.0)
    down, across = _squares(place, size, stride)
    scale = -1 / (2 * sigma_px**2)
    maps = (scale * down).softmax(2)[..., None] * (scale * across).softmax(2)[:, :, None]
    return maps * has[..., None, None], has


def in_cells(points: Tensor, stride: float) -> Tensor:
    """Places of a map, in cells, at which pixels of the image lie."""
    return (points + 0.5) / stride - 0.5


def centre_of(points: Tensor, centre_index: int | None) -> Tensor:
    """The centres [B, 2] of rows of points [B, K, 2]: one of the points, or the mean of the known.

    The mean stands where the point is None or unknown; of rows without any it is unknown.
    """
    mean = points.nanmean(dim=1)
    if centre_index is None:
        return mean
    named = points[:, centre_index]
    return torch.where(known(named)[:, None], named, mean)


def centre_map(centre: Tensor, size: Size, stride: float, sigma_px: float) -> Tensor:
    """Maps [B, 1, h, w] that are 1 at the cell of the centre [B, 2] and fall as a Gaussian.

    Centres that are unknown, or lie beyond the map, have zeros. Source: Zhou et al., Objects as
    points, 2019, arXiv:1904.07850, section 3.
    """
    cell, has = _nearest_cells(centre, size, stride)
    place = (torch.stack([cell % size[1], cell // size[1]], dim=1) + 0.5) * stride - 0.5
    down, across = _squares(place[:, None].to(centre), size, stride)
    maps = torch.exp(-(down[..., None] + across[:, :, None]) / (2 * sigma_px**2))
    return maps * has[:, None, None, None]


def offsets_at(points: Tensor, centre: Tensor, size: Size, stride: float) -> tuple[Tensor, Tensor]:
    """Steps [B, K, 2], in strides, from each centre's cell to the points, and that cell [B].

    Cells are counted row by row from 0. Steps are NaN to unknown points, and from a centre that is
    unknown or lies beyond the map; its cell is then 0.
    """
    cell, has = _nearest_cells(centre, size, stride)
    place = torch.stack([cell % size[1], cell // size[1]], dim=1)
    steps = in_cells(points, stride) - place[:, None]
    return torch.where(has[:, None, None], steps, torch.nan), cell


def _nearest_cells(points: Tensor, size: Size, stride: float) -> tuple[Tensor, Tensor]:
    """Indices int64 [B] of the cells that points [B, 2] lie in, and whether they lie in any."""
    cells = in_cells(points, stride)
    has = inside(cells, size)
    x, y = (torch.where(has[:, None], cells, 0.0) + 0.5).floor().long().unbind(dim=1)
    return y * size[1] + x, has


def _squares(points: Tensor, size: Size, stride: float) -> tuple[Tensor, Tensor]:
    """Squared distances in pixels along y [B, K, h] and x [B, K, w] of points [B, K, 2]."""
    down, across = (
        (torch.arange(side, device=points.device) + 0.5) * stride - 0.5 for side in size
    )
    return (down - points[..., 1:]).square(), (across - points[..., :1]).square()
