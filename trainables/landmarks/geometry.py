"""Points under transforms of their image.

Legend: B rows, K points; the last 2 are (x, y) in pixels, NaN where unknown.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Size = tuple[int, int]
"""Height and width: of an image in pixels, or of a map in cells."""


def known(points: Tensor) -> Tensor:
    """Which points [..., 2] are known, bool [...]."""
    return points.isfinite().all(dim=-1)


def moved(points: Tensor, matrices: Tensor, mirrored: Sequence[int]) -> Tensor:
    """Points [B, K, 2] of images as they lie in views of them, float32 [B, K, 2].

    ``matrices`` [B, 3, 3] lead from pixels of the image to pixels of the view. Where one mirrors,
    a point takes the name ``mirrored`` [K] of its partner.

    Raises:
        ValueError: ``mirrored`` names not one point for each point.
    """
    if len(mirrored) != points.shape[1]:
        raise ValueError(f"mirrored has {len(mirrored)} points, the rows have {points.shape[1]}")
    by = matrices.to(points)
    x, y, z = (  # sums of products: a matrix product may round to 10 bits on some devices
        by[:, i, None, 0] * points[..., 0] + by[:, i, None, 1] * points[..., 1] + by[:, i, None, 2]
        for i in range(3)
    )
    found = torch.stack([x / z, y / z], dim=2)
    return torch.where(_mirrors(by)[:, None, None], found[:, list(mirrored)], found)


def renamed(values: Tensor, matrices: Tensor, mirrored: Sequence[int]) -> Tensor:
    """What is known of points [B, K] by their names in views: partners change places in mirrors."""
    mirrors = _mirrors(matrices.to(values.device))
    return torch.where(mirrors[:, None], values[:, list(mirrored)], values)


def _mirrors(matrices: Tensor) -> Tensor:
    """Which transforms [B, 3, 3] turn the image over, bool [B]."""
    return matrices[:, 0, 0] * matrices[:, 1, 1] < matrices[:, 0, 1] * matrices[:, 1, 0]


def warped(images: Tensor, matrices: Tensor) -> Tensor:
    """Images [B, C, H, W] moved by pixel transforms [B, 3, 3], bilinear, mirrored at the border."""
    high, wide = images.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(high, device=images.device, dtype=torch.float32),
        torch.arange(wide, device=images.device, dtype=torch.float32),
        indexing="ij",
    )
    cells = torch.stack([columns, rows, torch.ones_like(rows)], dim=2).view(1, -1, 1, 3)
    back = torch.linalg.inv(matrices.float()).to(images.device)
    came_from = (cells * back[:, None]).sum(dim=3)  # sums, as in `moved`
    came_from = came_from[..., :2] / came_from[..., 2:]
    sides = torch.tensor([wide, high], device=images.device)
    grid = ((2 * came_from + 1) / sides - 1).view(len(images), high, wide, 2)
    return torch.nn.functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def inside(points: Tensor, size: Size) -> Tensor:
    """Which points [..., 2] lie on some pixel of an image of ``size``, bool [...]."""
    x, y = points.unbind(dim=-1)
    return (x >= -0.5) & (x < size[1] - 0.5) & (y >= -0.5) & (y < size[0] - 0.5)


def dropped_outside(points: Tensor, size: Size) -> Tensor:
    """Points [..., 2] of which those outside an image of ``size`` are unknown."""
    return torch.where(inside(points, size)[..., None], points, torch.nan)


def to_form(points: Tensor, frames: Tensor) -> Tensor:
    """Points [B, K, 2] of stored images as they lie in the padded squares made of them.

    ``frames`` [B, 3] are the (scale, left, top) of `trainables.images.frame_of`.
    """
    scale, corner = frames[:, None, :1].to(points), frames[:, None, 1:].to(points)
    return (points + 0.5) * scale - 0.5 + corner


def to_image(points: Tensor, frames: Tensor) -> Tensor:
    """Points [B, K, 2] of padded squares as they lie in the stored images: undoes `to_form`."""
    scale, corner = frames[:, None, :1].to(points), frames[:, None, 1:].to(points)
    return (points + 0.5 - corner) / scale - 0.5
