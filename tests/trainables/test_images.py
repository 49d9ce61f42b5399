import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainables import images
from trainables.images import ImageError, decode, decode_padded, encode, frame_of

QUICK = settings(deadline=None, derandomize=True, max_examples=40)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, form: str = "PNG") -> bytes:
    sink = io.BytesIO()
    image.save(sink, form)
    return sink.getvalue()


@QUICK
@given(height=st.integers(1, 20), width=st.integers(1, 20), colour=st.booleans())
def test_decode_undoes_encode(height, width, colour):
    grid = pixels(height, width, 3) if colour else pixels(height, width)
    expected = grid.transpose(2, 0, 1) if colour else grid[None]
    assert np.array_equal(decode(encode(grid)), expected)


def test_the_same_pixels_give_the_same_bytes_whatever_their_layout():
    grid = pixels(12, 10, 3)
    assert encode(grid) == encode(grid.copy()) == encode(np.asfortranarray(grid))
    assert encode(grid) != encode(255 - grid)


def test_grey_is_repeated_to_three_channels_when_asked():
    grid = pixels(6, 6)
    assert np.array_equal(decode(encode(grid), channels=3), np.stack([grid] * 3))


def test_colour_becomes_its_luma_when_one_channel_is_asked():
    grid = np.zeros((1, 3, 3), np.uint8)
    grid[0, 0, 0] = grid[0, 1, 1] = grid[0, 2, 2] = 255
    assert decode(encode(grid), channels=1).tolist() == [[[76, 150, 29]]]


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("LA", 3)]
)
def test_every_usual_mode_is_read_in_its_own_channels(mode, channels):
    content = saved(Image.fromarray(pixels(5, 7, 3)).convert(mode))
    assert decode(content).shape == (channels, 5, 7)
    assert decode(content).dtype == np.uint8


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_range(form):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    content = saved(Image.fromarray(levels * 257), form)
    assert np.array_equal(decode(content)[0], levels)


def test_the_shorter_side_is_scaled_and_the_longer_one_cropped_in_its_centre():
    grid = np.zeros((4, 12), np.uint8)
    grid[:, 4:8] = 255
    assert np.array_equal(decode(encode(grid), size=4)[0], np.full((4, 4), 255))
    wide = decode(encode(np.kron(grid, np.ones((2, 2), np.uint8))), size=4)[0]
    assert wide[:, 1:3].min() == 255


@QUICK
@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 33))
def test_any_shape_fits_any_size(height, width, size):
    assert decode(encode(pixels(height, width)), size=size).shape == (1, size, size)


def test_an_image_of_the_right_size_is_not_touched():
    grid = pixels(8, 8)
    assert np.array_equal(decode(encode(grid), size=8)[0], grid)


def test_a_flat_image_stays_flat_at_every_size():
    assert set(decode(encode(np.full((9, 17), 77, np.uint8)), size=28).ravel()) == {77}


def test_pixels_are_contiguous_for_the_bank():
    assert decode(encode(pixels(5, 6, 3)), size=5).flags["C_CONTIGUOUS"]


def test_an_empty_file_is_named_as_empty():
    with pytest.raises(ImageError, match="empty"):
        decode(b"")


@pytest.mark.parametrize("content", [b"hello, world", b"\x00" * 100, b"<svg></svg>"])
def test_what_is_no_image_is_named_so(content):
    with pytest.raises(ImageError, match="not an image"):
        decode(content)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_cut_image_is_broken(form):
    content = saved(Image.fromarray(pixels(40, 40, 3)), form)
    with pytest.raises(ImageError, match="broken|not an image"):
        decode(content[: len(content) // 2])


def test_a_header_that_claims_too_many_pixels_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 24)
    assert decode(encode(pixels(4, 6))).shape == (1, 4, 6)
    with pytest.raises(ImageError, match="5x5 pixels, at most 24"):
        decode(encode(pixels(5, 5)))


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_damaged_bytes_give_pixels_or_the_one_error(form):
    content, chance = saved(Image.fromarray(pixels(12, 12, 3)), form), random.Random(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 3, 9))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            outcomes.add(decode(bytes(damaged), size=8, channels=3).shape)
        except ImageError:
            outcomes.add("refused")
    assert outcomes <= {(3, 8, 8), "refused"}


# padded squares


def centre_of_light(grid: np.ndarray) -> tuple[float, float]:
    """Where the light of a grey image [H, W] has its mean, (x, y)."""
    mass = grid / grid.sum()
    return float(mass.sum(0) @ np.arange(grid.shape[1])), float(mass.sum(1) @ np.arange(len(grid)))


@pytest.mark.parametrize(
    ("width", "height", "size", "frame"),
    [
        (8, 8, 8, (1, 0, 0)),
        (8, 4, 8, (1, 0, 2)),
        (4, 8, 16, (2, 4, 0)),
        (100, 50, 20, (0.2, 0, 5)),
        # 7.5 rows: 7 of them from the fourth, half a quarter of a pixel off
        (20, 15, 10, (0.5, 0, 0.75)),
    ],
)
def test_frames_have_their_golden_values(width, height, size, frame):
    assert frame_of(width, height, size) == pytest.approx(frame)


def test_the_longer_side_is_scaled_and_the_rest_is_black():
    pixels, frame = decode_padded(encode(np.full((2, 4), 200, np.uint8)), 8)
    assert frame == (2, 0, 2)
    assert pixels.tolist() == [[[0] * 8] * 2 + [[200] * 8] * 4 + [[0] * 8] * 2]


@QUICK
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(1, 40),
    channels=st.sampled_from([None, 1, 3]),
)
def test_any_shape_is_padded_to_any_size(width, height, size, channels):
    found, frame = decode_padded(encode(pixels(height, width)), size, channels)
    assert found.shape == (channels or 1, size, size)
    assert found.flags["C_CONTIGUOUS"]
    assert frame == frame_of(width, height, size)


@pytest.mark.parametrize("size", [48, 61, 100, 150])
@pytest.mark.parametrize(("width", "height"), [(100, 100), (97, 64), (64, 97), (150, 61), (41, 90)])
def test_what_is_seen_lies_where_the_frame_says(width, height, size):
    x, y = 0.6 * width, 0.4 * height
    across, down = np.arange(width) - x, np.arange(height)[:, None] - y
    blob = np.round(255 * np.exp(-(across**2 + down**2) / 32)).astype(np.uint8)
    found, frame = decode_padded(encode(blob), size)
    expected = [
        (at + 0.5) * frame.scale - 0.5 + corner
        for at, corner in zip(centre_of_light(blob), frame[1:], strict=True)
    ]
    assert centre_of_light(found[0]) == pytest.approx(expected, abs=0.1)


def test_a_padded_image_of_the_right_size_is_not_touched():
    grid = pixels(8, 8, 3)
    found, frame = decode_padded(encode(grid), 8)
    assert np.array_equal(found, grid.transpose(2, 0, 1))
    assert frame == (1, 0, 0)


def test_bad_bytes_are_refused_by_both_ways_of_decoding():
    for content in (b"", b"hello, world"):
        with pytest.raises(ImageError):
            decode_padded(content, 8)
