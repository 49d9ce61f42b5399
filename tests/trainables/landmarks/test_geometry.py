"""Points that move with their image: golden values, and what undoes what."""

import pytest
import torch

from trainables.augment import View, ViewSpec
from trainables.images import frame_of
from trainables.landmarks.geometry import (
    dropped_outside,
    inside,
    known,
    moved,
    to_form,
    to_image,
)

NAN = float("nan")
SHIFT = torch.tensor([[[1.0, 0, 2], [0, 1, -1], [0, 0, 1]]])
FLIP = torch.tensor([[[-1.0, 0, 9], [0, 1, 0], [0, 0, 1]]])
"""The mirror image of one that is 10 pixels wide."""
PAIR = (1, 0, 2)
FACE = torch.tensor([[[2.0, 3.0], [6.0, 3.0], [4.0, 8.0]]])


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, atol=1e-4, equal_nan=True)


def test_points_move_as_by_hand():
    assert moved(FACE, SHIFT, PAIR).tolist() == [[[4, 2], [8, 2], [6, 7]]]


def test_points_of_a_mirror_image_take_their_partners_names():
    assert moved(FACE, FLIP, PAIR).tolist() == [[[3, 3], [7, 3], [5, 8]]]
    assert moved(FACE, FLIP, (0, 1, 2)).tolist() == [[[7, 3], [3, 3], [5, 8]]]


def test_a_perspective_divides_by_its_third_row():
    matrix = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 2]]])
    assert moved(FACE, matrix, PAIR).tolist() == (FACE / 2).tolist()


def test_rows_move_each_by_its_own_matrix():
    found = moved(FACE.repeat(2, 1, 1), torch.cat([SHIFT, FLIP]), PAIR)
    assert same(found, torch.cat([moved(FACE, SHIFT, PAIR), moved(FACE, FLIP, PAIR)]))


def test_two_flips_are_none():
    assert same(moved(moved(FACE, FLIP, PAIR), FLIP, PAIR), FACE)


@pytest.mark.parametrize(
    "spec",
    [
        ViewSpec(),
        ViewSpec(flip=1.0),
        ViewSpec(flip=0.5, rotate=40, scale=0.3, shear=20, translate=0.2),
        ViewSpec(flip=0, rotate=180),
    ],
    ids=str,
)
def test_the_inverse_matrices_lead_back(spec):
    points = torch.rand(6, 3, 2, generator=torch.Generator().manual_seed(0)) * 20
    points[1, 2] = NAN
    by = View(spec).with_geometry(torch.rand(6, 1, 20, 20), seed=1, rows=range(6), of=6)[1]
    assert same(moved(moved(points, by, PAIR), torch.linalg.inv(by), PAIR), points)


def test_unknown_points_stay_unknown_and_take_part_in_the_exchange_of_names():
    points = FACE.clone()
    points[0, 0] = NAN
    assert same(moved(points, SHIFT, PAIR)[0, 0], torch.tensor([NAN, NAN]))
    found = moved(points, FLIP, PAIR)
    assert known(found).tolist() == [[True, False, True]]


def test_mirrored_must_name_every_point():
    with pytest.raises(ValueError, match="mirrored has 2 points, the rows have 3"):
        moved(FACE, FLIP, (1, 0))


def test_an_image_reaches_half_a_pixel_beyond_the_centres_of_its_outer_pixels():
    points = torch.tensor([[[-0.5, 0], [-0.6, 0], [7.4, 3.4], [7.5, 0], [0, 3.5], [NAN, NAN]]])
    assert inside(points, (4, 8)).tolist() == [[True, False, True, False, False, False]]


def test_points_outside_become_unknown_and_the_others_stay():
    points = torch.tensor([[[1.0, 2.0], [8.0, 2.0], [NAN, NAN], [0.0, 0.0]]])
    expected = torch.tensor([[[1.0, 2.0], [NAN, NAN], [NAN, NAN], [0.0, 0.0]]])
    assert same(dropped_outside(points, (4, 8)), expected)


def test_points_lie_in_the_padded_square_as_by_hand():
    frames = torch.tensor([frame_of(4, 8, 16)])
    points = torch.tensor([[[0.0, 0.0], [3.0, 7.0], [NAN, NAN]]])
    assert same(to_form(points, frames), torch.tensor([[[4.5, 0.5], [10.5, 14.5], [NAN, NAN]]]))


def test_the_way_to_the_padded_square_and_back_changes_nothing():
    frames = torch.tensor([frame_of(640, 427, 256), frame_of(31, 64, 256), frame_of(9, 9, 4)])
    points = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(0)) * 30
    points[2, 1] = NAN
    assert same(to_image(to_form(points, frames), frames), points)
