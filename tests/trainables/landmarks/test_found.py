"""What a network is asked: images, mirror images, and views whose points are moved back.

The network is small and has random weights: it finds other points in every view, so that what is
made of them shows.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.orchestrator.dots import picture_of, places
from trainables.augment import PLAIN, WEAK, ViewSpec
from trainables.landmarks.found import Asked, FoundPoints, find
from trainables.landmarks.network import LandmarkNetworkSpec, Pyramid, build_landmark_network

ROWS, NUM = 5, 3
MIRRORED = (1, 0, 2)
TURNED = ViewSpec(flip=0.5, rotate=180.0, scale=0.2)
ALWAYS_MIRRORED = PLAIN.model_copy(update={"flip": 1.0})


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spec = LandmarkNetworkSpec(backbone=Pyramid(width=8, norm="group"), width=16)
        return build_landmark_network(spec, 1, NUM).eval()


def asked(
    network: torch.nn.Module, *, rows: int = ROWS, rows_per_pass: int = 8, scale: float = 1, **how
) -> FoundPoints:
    pixels = np.stack([picture_of(each) for each in places(ROWS, 0)])[:rows, None]
    frames = np.tile(np.float32([scale, 0, 0]), (rows, 1))
    device = torch.device("cpu")
    return find(
        network, pixels, frames, Asked(**how), MIRRORED, rows_per_pass=rows_per_pass, device=device
    )


def assert_equal(one: FoundPoints, other: FoundPoints, tolerance: float = 1e-4) -> None:
    for name, values in vars(one).items():
        np.testing.assert_allclose(values, vars(other)[name], atol=tolerance, err_msg=name)


def test_a_second_view_that_is_the_image_itself_changes_nothing(network):
    twice, once = asked(network, views=2, view=PLAIN), asked(network)
    np.testing.assert_allclose(twice.consistency, 1)
    assert_equal(replace(twice, consistency=once.consistency), once)


def test_an_image_and_its_mirror_image_as_a_view_are_flips(network):
    over, flips = asked(network, views=2, view=ALWAYS_MIRRORED), asked(network, flips=True)
    assert np.isfinite(over.consistency).all()
    assert_equal(replace(over, consistency=flips.consistency), flips)
    assert np.abs(flips.points - asked(network).points).max() > 1, "a mirror image tells more"


@pytest.mark.parametrize("view", [WEAK, TURNED], ids=["weak", "turned"])
def test_a_row_is_told_the_same_whatever_rows_are_beside_it(network, view):
    whole = asked(network, views=3, view=view)
    assert_equal(asked(network, views=3, view=view, rows_per_pass=2), whole)
    alone = asked(network, views=3, view=view, rows=1)
    np.testing.assert_allclose(alone.points, whole.points[:1], atol=1e-4)
    assert np.abs(asked(network, views=2, view=view).points - whole.points).max() > 0.1


def test_points_of_two_views_are_their_mean_and_consistency_falls_with_their_distance(network):
    one = asked(network)
    other = asked(network, flips=True)  # (image + mirror image) / 2
    apart = 2 * np.linalg.norm(other.points - one.points, axis=2)
    both = asked(network, views=2, view=ALWAYS_MIRRORED, sigma_px=2.0)
    np.testing.assert_allclose(both.consistency, np.exp(-((apart / 2) ** 2) / 8), atol=1e-4)


def test_a_view_that_sees_a_point_elsewhere_does_not_move_it(network):
    """Of an odd number of views each coordinate is one of them: no mean of two places."""
    three = asked(network, views=3, view=TURNED.model_copy(update={"flip": 0.0}))
    one = asked(network)
    moved = np.abs(three.points - one.points)
    assert (moved < 1e-4).any(), "the image itself is the middle one"
    assert (moved > 1e-1).any(), "or another is"


def test_one_view_has_nothing_to_be_consistent_with(network):
    assert np.isnan(asked(network).consistency).all()


def test_a_point_that_left_a_view_is_told_by_the_others_alone(network):
    far = PLAIN.model_copy(update={"translate": 0.5})
    plain, moved = asked(network), asked(network, views=2, view=far)
    alone = np.isnan(moved.consistency).ravel()
    assert 0 < alone.sum() < alone.size, "some points leave the view"
    same = moved.points.reshape(-1, 2)[alone] - plain.points.reshape(-1, 2)[alone]
    assert np.abs(same).max() < 1e-4
    assert np.isfinite(moved.points).all()


def test_points_are_told_in_pixels_of_the_stored_image_and_views_in_those_of_the_network(network):
    small, large = (asked(network, views=3, view=TURNED, scale=s) for s in (1, 0.5))
    np.testing.assert_allclose(2 * (small.points + 0.5), large.points + 0.5, atol=1e-3)
    np.testing.assert_allclose(2 * small.spread, large.spread, rtol=1e-4)
    np.testing.assert_allclose(small.consistency, large.consistency, atol=1e-5)


def test_no_rows_have_no_points(network):
    none = asked(network, rows=0, views=3, view=TURNED)
    assert none.points.shape == (0, NUM, 2)
    assert none.consistency.shape == (0, NUM)
