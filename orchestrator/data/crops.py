"""Cutting a square around points out of an image; the points move along."""

import math
from dataclasses import dataclass

import numpy as np

from trainables.images import encode

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, 0 = left or upper edge of the first pixel."""
Points = tuple[float, ...]


@dataclass(frozen=True)
class Crop:
    """Part of an image: columns from ``left``, rows from ``top``; the ends are excluded."""

    left: int
    top: int
    right: int
    bottom: int

    def content(self, pixels: np.ndarray) -> bytes:
        """The part of pixels uint8 [C, H, W] as PNG."""
        part = pixels[:, self.top : self.bottom, self.left : self.right]
        return encode(part[0] if len(part) == 1 else part.transpose(1, 2, 0))

    def points(self, points: Points) -> Points:
        """Points x0, y0, x1, ... of the image in pixels of the part."""
        corner = (self.left, self.top)
        return tuple(value - corner[i % 2] for i, value in enumerate(points))


def square(box: Box, grown: float, wide: int, high: int) -> Crop | None:
    """The square around a box grown by this factor, clipped to the image; None if nothing is left.

    A box without a size, or with one that is not finite, leaves nothing.
    """
    left, top, right, bottom = box
    side = max(right - left, bottom - top) * grown
    if not all(map(math.isfinite, (*box, side))) or right < left or bottom < top or side <= 0:
        return None
    x, y = ((one + other - side) / 2 for one, other in ((left, right), (top, bottom)))
    if not (math.isfinite(x) and math.isfinite(y)):
        return None
    first, above, length = math.floor(x), math.floor(y), math.ceil(side)
    crop = Crop(max(first, 0), max(above, 0), min(first + length, wide), min(above + length, high))
    return crop if crop.left < crop.right and crop.top < crop.bottom else None


def box_of(points: Points) -> Box | None:
    """The box around known points x0, y0, x1, ...; None without any, or if one is infinite."""
    known = np.array(points, np.float64).reshape(-1, 2)
    known = known[~np.isnan(known).any(axis=1)]
    if not len(known) or not np.isfinite(known).all():
        return None
    (left, top), (right, bottom) = known.min(axis=0).tolist(), known.max(axis=0).tolist()
    return left + 0.5, top + 0.5, right + 0.5, bottom + 0.5
