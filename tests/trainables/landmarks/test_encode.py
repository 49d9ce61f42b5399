"""Maps made of points: golden values, and what unknown points leave behind."""

import math

import pytest
import torch

from trainables.landmarks.encode import centre_map, centre_of, gaussians, in_cells, offsets_at

NAN = float("nan")
NONE = [NAN, NAN]


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, atol=1e-5, equal_nan=True)


def test_a_gaussian_has_its_golden_values():
    maps, has = gaussians(torch.tensor([[[1.0, 0.0]]]), (1, 3), stride=1.0, sigma_px=1.0)
    side = math.exp(-0.5)
    expected = [side / (1 + 2 * side), 1 / (1 + 2 * side), side / (1 + 2 * side)]
    assert maps.shape == (1, 1, 1, 3)
    assert maps.flatten().tolist() == pytest.approx(expected)
    assert has.tolist() == [[True]]


@pytest.mark.parametrize("sigma", [0.01, 1.0, 6.0, 100.0])
def test_maps_sum_to_one_and_are_largest_at_the_points_cell(sigma):
    points = 60 * torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0))
    maps, has = gaussians(points, (16, 16), stride=4.0, sigma_px=sigma)
    assert has.all()
    assert torch.allclose(maps.sum(dim=(2, 3)), torch.ones(2, 50))
    at = maps.flatten(2).argmax(dim=2)
    cell = in_cells(points, 4.0).round().long()
    if sigma < 50:
        assert torch.equal(at, cell[..., 1] * 16 + cell[..., 0])


def test_unknown_points_and_points_beyond_the_map_have_no_map():
    points = torch.tensor([[NONE, [-0.6, 3.0], [3.0, 15.6], [0.0, 0.0], [15.4, 15.4]]])
    maps, has = gaussians(points, (4, 4), stride=4.0, sigma_px=3.0)
    assert has.tolist() == [[False, False, False, True, True]]
    assert maps.sum(dim=(2, 3)).tolist() == [[0, 0, 0, pytest.approx(1), pytest.approx(1)]]


def test_a_map_does_not_depend_on_the_points_beside_it():
    points = torch.tensor([[[3.0, 4.0], NONE, [9.0, 2.0]]])
    whole = gaussians(points, (4, 4), 4.0, 3.0)[0]
    alone = gaussians(points[:, 2:], (4, 4), 4.0, 3.0)[0]
    assert torch.equal(whole[:, 2:], alone)


# centres


def test_centres_are_the_named_point_or_the_mean_of_the_known():
    points = torch.tensor([[[0.0, 2.0], [4.0, 6.0]], [NONE, [1.0, 3.0]], [NONE, NONE]])
    mean = torch.tensor([[2.0, 4.0], [1.0, 3.0], NONE])
    assert same(centre_of(points, None), mean)
    assert same(centre_of(points, 0), torch.tensor([[0.0, 2.0], [1.0, 3.0], NONE]))
    assert same(centre_of(points, 1), torch.tensor([[4.0, 6.0], [1.0, 3.0], NONE]))


def test_centre_maps_are_one_at_the_nearest_cell_and_fall_from_there():
    found = centre_map(torch.tensor([[6.2, 1.0]]), (2, 3), stride=4.0, sigma_px=4.0)
    near, corner, far = math.exp(-0.5), math.exp(-1), math.exp(-0.5)
    expected = [[near, 1.0, near], [corner, far, corner]]
    assert torch.allclose(found, torch.tensor([[expected]]))


def test_centres_that_are_unknown_or_beyond_the_map_have_zeros():
    found = centre_map(torch.tensor([NONE, [-9.0, 2.0], [0.0, 0.0]]), (2, 3), 4.0, 4.0)
    assert found.amax(dim=(1, 2, 3)).tolist() == [0, 0, 1]


def test_offsets_are_strides_from_the_centres_cell():
    points = torch.tensor([[[9.5, 5.5], [5.5, 1.5], NONE]])
    steps, cell = offsets_at(points, torch.tensor([[6.0, 5.0]]), (3, 4), stride=4.0)
    assert cell.tolist() == [5]
    assert same(steps, torch.tensor([[[1.0, 0.0], [0.0, -1.0], NONE]]))


def test_without_a_centre_there_are_no_offsets():
    points = torch.ones(2, 3, 2)
    steps, cell = offsets_at(points, torch.tensor([NONE, [50.0, 1.0]]), (3, 4), stride=4.0)
    assert steps.isnan().all()
    assert cell.tolist() == [0, 0]


def test_offsets_lead_back_to_the_points():
    points = 40 * torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(0))
    steps, cell = offsets_at(points, centre_of(points, None), (10, 10), stride=4.0)
    start = torch.stack([cell % 10, cell // 10], dim=1).float()
    assert same((start[:, None] + steps + 0.5) * 4 - 0.5, points)
