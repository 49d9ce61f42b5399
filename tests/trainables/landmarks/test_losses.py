"""What maps, offsets and shapes cost: golden values and laws."""

import math

import pytest
import torch

from trainables.landmarks.encode import centre_map, gaussians, offsets_at
from trainables.landmarks.losses import (
    focal_centre_loss,
    heatmap_distance,
    heatmap_loss,
    offset_loss,
    structure_loss,
)

NAN = float("nan")
NONE = [NAN, NAN]
POINTS = 6 + 20 * torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0))
MAPS = gaussians(POINTS, (16, 16), 2.0, 3.0)[0]
LOGITS = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
ONES = torch.ones(3, 4)


# maps


def test_a_heatmap_costs_its_divergence_as_by_hand():
    logits = torch.tensor([0.5, 0.25, 0.25]).log().view(1, 1, 1, 3)
    target = torch.tensor([0.5, 0.5, 0.0]).view(1, 1, 1, 3)
    total, weight = heatmap_loss(logits, target, torch.tensor([[2.0]]))
    assert total.item() == pytest.approx(2 * 0.5 * math.log(2))
    assert weight.item() == 2


def test_a_perfect_heatmap_costs_nothing_and_any_other_more():
    assert heatmap_loss(MAPS.log(), MAPS, ONES)[0].item() == pytest.approx(0, abs=1e-4)
    assert heatmap_loss(LOGITS, MAPS, ONES)[0] > 1


def test_points_without_a_map_or_a_weight_cost_nothing_and_give_no_gradient():
    target, weight = MAPS.clone(), ONES.clone()
    target[0, 1], weight[2, 3] = 0, 0
    leaf = LOGITS.clone().requires_grad_()
    total, counted = heatmap_loss(leaf, target, weight)
    total.backward()
    assert counted.item() == 10
    assert leaf.grad[0, 1].abs().max() == 0
    assert leaf.grad[2, 3].abs().max() == 0
    assert leaf.grad[1].abs().amax(dim=(1, 2)).min() > 0


def test_the_parts_of_a_batch_add_up():
    whole = heatmap_loss(LOGITS, MAPS, ONES)
    parts = [heatmap_loss(LOGITS[i : i + 1], MAPS[i : i + 1], ONES[:1]) for i in range(3)]
    assert sum(part[0].item() for part in parts) == pytest.approx(whole[0].item(), rel=1e-5)
    assert sum(part[1].item() for part in parts) == whole[1].item()


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_gaussians_far_apart_are_at_distance_two_on_any_grid(sigma):
    points = torch.tensor([[[15.0, 15.0], [15.0, 45.0]]])
    one, other = gaussians(points, (64, 64), 1.0, sigma)[0].split(1, dim=1)
    weight = torch.ones(1, 1)
    assert heatmap_distance(one, other, sigma, weight)[0].item() == pytest.approx(2, rel=1e-3)
    assert heatmap_distance(one, 0 * one, sigma, weight)[0].item() == pytest.approx(1, rel=1e-3)
    assert heatmap_distance(one, one, sigma, weight)[0].item() == 0


def test_distances_are_symmetric_and_weighed():
    other, weight = MAPS.flip(0), torch.rand(3, 4, generator=torch.Generator().manual_seed(2))
    there, back = (
        heatmap_distance(MAPS, other, 1.5, weight),
        heatmap_distance(other, MAPS, 1.5, weight),
    )
    assert there[0].item() == pytest.approx(back[0].item())
    assert there[1].item() == pytest.approx(weight.sum().item())
    double = heatmap_distance(MAPS, other, 1.5, 2 * weight)[0]
    assert double.item() == pytest.approx(2 * there[0].item(), rel=1e-5)


# centres


def test_the_focal_loss_is_as_by_hand():
    logits = torch.zeros(1, 1, 1, 2)
    target = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)
    total, number = focal_centre_loss(logits, target)
    expected = 0.25 * math.log(2) + 0.5**4 * 0.25 * math.log(2)
    assert total.item() == pytest.approx(expected)
    assert number.item() == 1


def test_the_focal_loss_falls_to_nothing_at_a_sure_centre():
    target = centre_map(torch.tensor([[9.0, 20.0]]), (16, 16), 2.0, 3.0)
    sure = torch.where(target == 1, 20.0, -20.0)
    assert focal_centre_loss(sure, target)[0].item() == pytest.approx(0, abs=1e-5)
    assert focal_centre_loss(-sure, target)[0] > 10


def test_maps_without_a_centre_cost_nothing():
    target = centre_map(torch.tensor([[9.0, 20.0], NONE]), (16, 16), 2.0, 3.0)
    leaf = LOGITS[:2, :1].clone().requires_grad_()
    total, number = focal_centre_loss(leaf, target)
    total.backward()
    assert number.item() == 1
    assert leaf.grad[1].abs().max() == 0
    assert leaf.grad[0].abs().max() > 0


def test_offsets_cost_their_absolute_differences_as_by_hand():
    offsets = torch.zeros(1, 4, 2, 2)
    offsets[0, :, 1, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    target = torch.tensor([[[0.5, 4.0], NONE]])
    total, number = offset_loss(offsets, target, torch.tensor([2]))
    assert total.item() == 2.5
    assert number.item() == 1


def test_unknown_offsets_give_no_gradient():
    centre = torch.tensor([[16.0, 16.0], NONE, [10.0, 10.0]])
    points = POINTS.clone()
    points[0, 2] = NAN
    target, cell = offsets_at(points, centre, (16, 16), 2.0)
    leaf = torch.zeros(3, 8, 16, 16, requires_grad=True)
    total, number = offset_loss(leaf, target, cell)
    total.backward()
    assert number.item() == 7
    assert leaf.grad.isfinite().all()
    assert leaf.grad[0, 4:6].abs().max() == 0
    assert leaf.grad[1].abs().max() == 0
    assert leaf.grad[0, :4].abs().sum() == 4


# shapes


def test_the_change_of_extent_is_as_by_hand():
    """Extents around the means are 2 and 8 square pixels, and 2 / 100 and 8 / 100 of the image."""
    one = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])
    total, rows = structure_loss(one, 2 * one, side=10.0)
    assert total.item() == pytest.approx(0.06**2 / 2)
    assert rows.item() == 1


def test_a_shape_that_only_moves_or_turns_costs_nothing():
    turned = torch.stack([-POINTS[..., 1], POINTS[..., 0]], dim=2)
    for other in (POINTS + 5, turned):
        assert structure_loss(POINTS, other, 32.0)[0].item() == pytest.approx(0, abs=1e-9)
    assert structure_loss(POINTS, 1.5 * POINTS, 32.0)[0] > 1e-4


def test_only_points_known_in_both_frames_count():
    one, other = POINTS.clone(), 1.5 * POINTS
    one[0, 1], other[0, 3] = NAN, NAN
    leaf = other.clone().requires_grad_()
    found = structure_loss(one[:1], leaf[:1], 32.0)[0]
    expected = structure_loss(POINTS[:1, [0, 2]], 1.5 * POINTS[:1, [0, 2]], 32.0)[0]
    assert found.item() == pytest.approx(expected.item())
    found.backward()
    assert leaf.grad.isfinite().all()


def test_rows_with_fewer_than_two_points_count_nothing():
    points = POINTS.clone()
    points[0, 1:], points[1] = NAN, NAN
    total, rows = structure_loss(points, 2 * points, 32.0)
    assert rows.item() == 1
    assert total.item() == pytest.approx(structure_loss(POINTS[2:], 2 * POINTS[2:], 32.0)[0].item())
