"""Images that claim or hold very much are refused or cost little; nothing else is started."""

import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from trainables.images import MOST_PIXELS, ImageError, decode, encode


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(wide: int, high: int, rows: bytes = b"", *more: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + body


@pytest.mark.parametrize(
    ("wide", "high"), [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (MOST_PIXELS + 1, 1)]
)
def test_an_image_that_claims_too_many_pixels_is_refused(wide, high):
    with pytest.raises(ImageError, match="pixels"):
        decode(png(wide, high))


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP"])
def test_a_text_that_unpacks_to_very_much_is_refused(name):
    bomb = chunk(name, b"a\0\0" + zlib.compress(bytes(1 << 26)))
    with pytest.raises(ImageError, match="broken image"):
        decode(png(8, 8, bytes(72), bomb))


def test_pixels_behind_the_last_one_are_not_unpacked():
    assert decode(png(8, 8, bytes(1 << 26))).shape == (1, 8, 8)


@pytest.mark.parametrize("kind", ["TIFF", "GIF"])
def test_of_many_pages_or_frames_only_the_first_is_read(kind):
    pages = [Image.fromarray(np.full((8, 8), i % 251, np.uint8)) for i in range(500)]
    sink = io.BytesIO()
    pages[0].save(sink, kind, save_all=True, append_images=pages[1:])
    assert (decode(sink.getvalue(), channels=1) == 0).all()


def test_a_cut_image_is_refused_wherever_it_is_cut():
    whole = encode(np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8))
    for end in range(0, len(whole) - 40, 7):
        with pytest.raises(ImageError):
            decode(whole[:end])


def test_a_format_that_another_program_would_read_is_refused_without_starting_it(monkeypatch):
    def started(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(subprocess, "check_call", started)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ImageError, match="not an image"):
        decode(eps)
