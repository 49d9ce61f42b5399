"""Encoded images to pixels of one size, and back. Bad images raise one error with the reason."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 64 * 1024 * 1024
"""Larger images are refused: a small file may claim to hold billions of pixels."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is read; others, such as EPS, would hand the bytes to another program."""


class ImageError(ValueError):
    """The bytes are no image that can be used; the message says why."""


class Frame(NamedTuple):
    """Where an image lies in the padded square made of it."""

    scale: float
    """Pixels of the square per pixel of the image."""
    left: float
    """Pixels of the square left of the image."""
    top: float
    """Pixels of the square above the image."""


def decode(content: bytes, size: int | None = None, channels: int | None = None) -> np.ndarray:
    """Pixels uint8 [C, H, W]: scaled on the shorter side and centre-cropped to ``size``.

    With ``size`` or ``channels`` None the image's own are kept (grey 1, anything else 3).

    Raises:
        ImageError: The content is empty, no image, broken, or larger than ``MOST_PIXELS``.
    """
    plain = _read(content, channels)
    if size is not None and plain.size != (size, size):
        plain = _fit(plain, size)
    return _pixels(plain)


def decode_padded(
    content: bytes, size: int, channels: int | None = None
) -> tuple[np.ndarray, Frame]:
    """Pixels uint8 [C, size, size] of the whole image, and where it lies in them.

    The image is scaled on its longer side and centred on black; its shorter side loses at most half
    a pixel of the square at each end. With ``channels`` None its own are kept, as by `decode`.

    Raises:
        ImageError: The content is empty, no image, broken, or larger than ``MOST_PIXELS``.
    """
    plain = _read(content, channels)
    frame = frame_of(*plain.size, size)
    wide, high = (_span(side, frame.scale) for side in plain.size)
    if plain.size != (wide, high):
        left = max(0.0, (plain.width - wide / frame.scale) / 2)
        top = max(0.0, (plain.height - high / frame.scale) / 2)
        inner = (left, top, plain.width - left, plain.height - top)
        plain = plain.resize((wide, high), Image.Resampling.BILINEAR, box=inner)
    padded = Image.new(plain.mode, (size, size))
    padded.paste(plain, ((size - wide) // 2, (size - high) // 2))
    return _pixels(padded), frame


def frame_of(width: int, height: int, size: int) -> Frame:
    """Where an image of ``width`` and ``height`` lies in the square that `decode_padded` makes.

    A point (x, y) of the image lies at (x + 0.5) * scale - 0.5 + left, and so on.
    """
    scale = size / max(width, height)
    left, top = (
        (size - _span(side, scale)) // 2 - (side * scale - _span(side, scale)) / 2
        for side in (width, height)
    )
    return Frame(scale, left, top)


def _span(side: int, scale: float) -> int:
    """Whole pixels of a side once it is scaled."""
    return max(1, int(side * scale + 1e-6))


def _read(content: bytes, channels: int | None) -> Image.Image:
    """The image in 8 bits, grey or RGB, as `decode` says."""
    if not content:
        raise ImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ImageError(f"{image.width}x{image.height} pixels, at most {MOST_PIXELS}")
            image.load()
            grey = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")
            wanted = channels or (1 if grey else 3)
            return _eight_bits(image).convert("L" if wanted == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise ImageError("not an image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels: {error}") from error
    except ImageError:
        raise
    except Exception as error:  # readers of broken images raise whatever they stumble over
        raise ImageError(f"broken image: {error or type(error).__name__}") from error


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greys keep their high byte; Pillow's own conversion clips them at 255."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _fit(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    wide, high = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (wide - size) // 2, (high - size) // 2
    return image.crop((left, top, left + size, top + size))


def encode(pixels: np.ndarray) -> bytes:
    """PNG bytes of pixels uint8 [H, W] or [H, W, 3]; the same pixels give the same bytes."""
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(sink, "PNG", compress_level=3)
    return sink.getvalue()
