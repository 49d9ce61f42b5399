"""Drawings: the colours are where the points are."""

import numpy as np
import pytest

from trainables.drawing import GAP, LEAST_SIDE, RADIUS, colour_of, drawn, sheet

NAN = float("nan")
GREY = np.full((1, 64, 64), 90, np.uint8)
POINTS = np.array([[10.0, 20.0], [40.0, 50.0]], np.float32)


def at(image: np.ndarray, point: np.ndarray, factor: int = 4) -> tuple[int, ...]:
    x, y = np.round((point + 0.5) * factor - 0.5).astype(int)
    return tuple(image[:, y, x].tolist())


def test_a_dot_has_its_colour_at_the_point():
    found = drawn(GREY, POINTS)
    assert found.shape == (3, 256, 256)
    assert found.dtype == np.uint8
    assert at(found, POINTS[0]) == colour_of(0)
    assert at(found, POINTS[1]) == colour_of(1)
    assert at(found, np.array([60.0, 5.0])) == (90, 90, 90)


def test_the_dot_of_a_point_without_weight_is_hollow():
    found = drawn(GREY, POINTS, np.array([0.0, 0.5]))
    assert at(found, POINTS[0]) == (90, 90, 90)
    assert at(found, POINTS[0] + [(RADIUS - 1) / 4, 0]) == colour_of(0)
    assert at(found, POINTS[1]) == colour_of(1)


def test_unknown_points_leave_no_dot():
    found = drawn(GREY, np.array([[NAN, NAN], [40.0, 50.0]]))
    assert not (found == np.array(colour_of(0))[:, None, None]).all(axis=0).any()
    assert at(found, POINTS[1]) == colour_of(1)
    assert np.array_equal(drawn(GREY, np.full((2, 2), NAN)), np.full((3, 256, 256), 90))


def test_points_beyond_the_image_do_no_harm():
    drawn(GREY, np.array([[-500.0, 3.0], [64.0, 1e6]]))


def test_names_stand_beside_their_dots():
    plain, named = drawn(GREY, POINTS), drawn(GREY, POINTS, names=["eye", "nose"])
    changed = (plain != named).any(axis=0)
    rows, columns = np.nonzero(changed)
    assert changed.any()
    assert columns.min() > 10 * 4
    assert rows.max() < 55 * 4


def test_the_image_given_is_not_changed():
    given = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    before = given.copy()
    drawn(given, POINTS)
    assert np.array_equal(given, before)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 100, 30), (3, 256, 256), (1, 300, 400)])
def test_images_are_enlarged_by_a_whole_number_until_they_are_large_enough(shape):
    found = drawn(np.zeros(shape, np.uint8), POINTS[:0])
    factor = found.shape[1] // shape[1]
    assert found.shape == (3, factor * shape[1], factor * shape[2])
    assert min(found.shape[1:]) >= LEAST_SIDE
    assert factor == 1 or (factor - 1) * min(shape[1:]) < LEAST_SIDE


def test_the_first_points_have_different_colours():
    assert len({colour_of(k) for k in range(98)}) == 98
    near = [
        np.abs(np.subtract(colour_of(k), colour_of(j))).sum() for k in range(5) for j in range(k)
    ]
    assert min(near) > 60


def test_a_sheet_has_its_images_in_rows():
    images = [np.full((3, 8, 6), 10 * k + 10, np.uint8) for k in range(5)]
    images[4] = images[4][:, :4, :3]
    found = sheet(images, columns=3)
    assert found.shape == (3, 8 + GAP + 8, 3 * 6 + 2 * GAP)
    for k in range(4):
        top, left = k // 3 * (8 + GAP), k % 3 * (6 + GAP)
        assert (found[:, top : top + 8, left : left + 6] == 10 * k + 10).all()
    assert (found[:, 8 + GAP : 8 + GAP + 4, 6 + GAP : 6 + GAP + 3] == 50).all()
    assert found.astype(int).sum() == sum(image.astype(int).sum() for image in images)


def test_a_sheet_is_no_wider_than_its_images():
    assert sheet([np.zeros((3, 8, 6), np.uint8)], columns=9).shape == (3, 8, 6)


@pytest.mark.parametrize(("count", "columns"), [(0, 3), (2, 0)])
def test_a_sheet_of_nothing_is_refused(count, columns):
    with pytest.raises(ValueError, match="shows nothing"):
        sheet([np.zeros((3, 8, 6), np.uint8)] * count, columns)
