"""Images with their labels drawn in, for people to look at.

Legend: C channels (1 or 3), H x W pixels, K points.
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

LEAST_SIDE = 256
"""Images are enlarged until both sides have as many pixels."""
RADIUS = 4
"""Of a dot, in pixels of the drawing."""
CAPTION = 20
"""Height of the words below an image, in pixels."""
GAP = 4
"""Between the images of a sheet, in pixels."""


def drawn(
    pixels: np.ndarray,
    points: np.ndarray,
    weights: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """The image uint8 [C, H, W] with a dot for each known point [K, 2], uint8 [3, H', W'].

    It is enlarged by a whole number. A point keeps its colour from image to image; its dot is
    hollow where its weight [K] is 0. With ``names`` [K] each dot has its name beside it.
    """
    image = _enlarged(pixels)
    factor = image.width // pixels.shape[2]
    pen = ImageDraw.Draw(image)
    for k, (x, y) in enumerate(((points + 0.5) * factor - 0.5).tolist()):
        if not np.isfinite([x, y]).all():
            continue
        box = (x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)
        hollow = weights is not None and weights[k] == 0
        pen.ellipse(box, fill=None if hollow else colour_of(k), outline=colour_of(k), width=2)
        if names is not None:
            pen.text((x + RADIUS + 2, y - 2 * RADIUS), names[k], fill=colour_of(k))
    return _first(image)


def captioned(pixels: np.ndarray, text: str, *, right: bool | None = None) -> np.ndarray:
    """The image uint8 [C, H, W] above its label in words, uint8 [3, H', W'].

    The words are green where the label is known to be right, red where it is known to be wrong.
    """
    image = _enlarged(pixels)
    colour = {True: (80, 220, 80), False: (255, 80, 80), None: (255, 255, 255)}[right]
    whole = Image.new("RGB", (image.width, image.height + CAPTION))
    whole.paste(image, (0, 0))
    ImageDraw.Draw(whole).text((4, image.height + 4), text, fill=colour)
    return _first(whole)


def _enlarged(pixels: np.ndarray) -> Image.Image:
    """The image in colours, enlarged by a whole number."""
    colour = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
    factor = max(1, -(-LEAST_SIDE // min(pixels.shape[1:])))
    image = Image.fromarray(np.ascontiguousarray(colour))
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.BILINEAR)


def colour_of(point: int) -> tuple[int, int, int]:
    """The colour of a point, red, green and blue: those of the first points lie far apart."""
    hue = point * (5**0.5 - 1) / 2 % 1  # the golden ratio fills the circle evenly
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Images uint8 [3, H, W] side by side in rows of ``columns``, on black, uint8 [3, H', W'].

    Smaller ones stand in the upper left of a place that fits the largest.

    Raises:
        ValueError: There is no image, or no column.
    """
    if not images or columns < 1:
        raise ValueError(f"a sheet of {len(images)} images in {columns} columns shows nothing")
    high, wide = (max(image.shape[axis] for image in images) + GAP for axis in (1, 2))
    across = min(columns, len(images))
    down = -(-len(images) // across)
    found = np.zeros((3, down * high - GAP, across * wide - GAP), np.uint8)
    for place, image in enumerate(images):
        top, left = place // across * high, place % across * wide
        found[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return found


def _first(image: Image.Image) -> np.ndarray:
    """Channels first, [3, H, W]."""
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
