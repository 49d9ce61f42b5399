"""Encoded images to pixels of one size, and back. Bad images raise one error with the reason."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 64 * 1024 * 1024
"""Larger images are refused: a small file may claim to hold billions of pixels."""


class ImageError(ValueError):
    """The bytes are no image that can be used; the message says why."""


def decode(content: bytes, size: int | None = None, channels: int | None = None) -> np.ndarray:
    """Pixels uint8 [C, H, W]: scaled on the shorter side and centre-cropped to ``size``.

    With ``size`` or ``channels`` None the image's own are kept (grey 1, anything else 3).

    Raises:
        ImageError: The content is empty, no image, broken, or larger than ``MOST_PIXELS``.
    """
    if not content:
        raise ImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ImageError(f"{image.width}x{image.height} pixels, at most {MOST_PIXELS}")
            image.load()
            grey = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")
            wanted = channels or (1 if grey else 3)
            plain = _eight_bits(image).convert("L" if wanted == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise ImageError("not an image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"broken image: {error}") from error
    if size is not None and plain.size != (size, size):
        plain = _fit(plain, size)
    pixels = np.asarray(plain, dtype=np.uint8)
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
