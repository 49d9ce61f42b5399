"""Cutting out: a grown square inside the image, and points that move along."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.crops import Crop, box_of, square
from trainables.images import decode

numbers = st.floats(width=64)
sides = st.integers(1, 50)


def test_a_box_becomes_a_grown_square_around_its_centre():
    assert square((40, 45, 60, 55), 1.5, 100, 100) == Crop(35, 35, 65, 65)


def test_a_square_is_clipped_to_the_image():
    assert square((0, 0, 10, 10), 2, 100, 8) == Crop(0, 0, 15, 8)


@pytest.mark.parametrize(
    "box",
    [
        (200, 0, 210, 10),
        (5, 5, 5, 5),
        (9, 0, 1, 4),
        (0, 0, math.inf, 4),
        (0, math.nan, 3, 4),
        (-1.7e308, 0, 1.7e308, 1),
    ],
)
def test_a_box_that_leaves_nothing_gives_nothing(box):
    assert square(box, 1.2, 100, 100) is None


@given(numbers, numbers, numbers, numbers, sides, sides)
def test_what_is_cut_out_is_never_empty_and_never_outside(left, top, right, bottom, wide, high):
    crop = square((left, top, right, bottom), 1.2, wide, high)
    if crop is not None:
        assert 0 <= crop.left < crop.right <= wide
        assert 0 <= crop.top < crop.bottom <= high


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_cut_out_as_they_are(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 9, 7), np.uint8)
    part = decode(Crop(2, 3, 6, 8).content(pixels))
    assert np.array_equal(part, pixels[:, 3:8, 2:6])


def test_points_move_along_and_unknown_ones_stay_unknown():
    moved = Crop(2, 3, 6, 8).points((2.5, 3.0, math.nan, math.nan))
    assert moved[:2] == (0.5, 0.0)
    assert all(map(math.isnan, moved[2:]))


def test_the_box_is_that_of_the_known_points_from_the_edge_of_the_first_pixel():
    assert box_of((1, 2, math.nan, math.nan, 5, 0)) == (1.5, 0.5, 5.5, 2.5)
    assert box_of((math.nan, math.nan)) is None
    assert box_of((1, math.inf)) is None
