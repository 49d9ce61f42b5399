"""Frames laid over one another: what moved is back in its place."""

import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from trainables.landmarks.flow import tracked

SHIFT = (3, -2)
"""Pixels down and to the right."""


def frames(channels: int = 1, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture [C, side, side], and the same moved by ``SHIFT``."""
    noise = np.random.default_rng(0).normal(size=(channels, side + 16, side + 16))
    smooth = gaussian_filter(noise, (0, 3, 3))
    picture = np.uint8(np.clip(128 + 60 * smooth / smooth.std(), 0, 255))
    down, right = SHIFT
    moved = picture[:, 8 - down : 8 - down + side, 8 - right : 8 - right + side]
    return picture[:, 8 : 8 + side, 8 : 8 + side].copy(), moved.copy()


def error(one: np.ndarray, other: np.ndarray, margin: int = 8) -> float:
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
    return float(np.abs(one[inner].astype(float) - other[inner]).mean())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_moved_frame_is_laid_back_onto_the_current_one(channels):
    pytest.importorskip("cv2")
    current, neighbour = frames(channels)
    found = tracked(current, neighbour)
    assert found.shape == current.shape
    assert found.dtype == np.uint8
    assert error(current, neighbour) > 20
    assert error(current, found) < 4


def test_a_frame_on_itself_stays_as_it_is():
    pytest.importorskip("cv2")
    current, _ = frames()
    assert error(current, tracked(current, current), margin=1) < 0.5


def test_the_same_frames_give_the_same_pixels():
    pytest.importorskip("cv2")
    current, neighbour = frames(3)
    before = (current.copy(), neighbour.copy())
    assert np.array_equal(tracked(current, neighbour), tracked(current, neighbour))
    assert np.array_equal(current, before[0])
    assert np.array_equal(neighbour, before[1])


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 40), (1, 33, 17), (1, 1, 1), (3, 15, 64)])
def test_frames_of_any_shape_keep_it(shape):
    pytest.importorskip("cv2")
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    assert tracked(pixels[0], pixels[1]).shape == shape


def test_frames_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        tracked(np.zeros((1, 32, 32), np.uint8), np.zeros((1, 32, 33), np.uint8))


def test_without_opencv_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"pip install 'selftrain\[video\]'"):
        tracked(*frames())
