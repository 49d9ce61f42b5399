"""Points out of maps: golden values, and that they undo the maps that are made of points."""

import pytest
import torch

from trainables.landmarks.decode import (
    centre_candidates,
    fuse,
    in_image,
    nearest_candidate,
    peaks,
    probabilities,
)
from trainables.landmarks.encode import centre_map, gaussians, offsets_at

NAN = float("nan")
NONE = [NAN, NAN]


def same(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> bool:
    return torch.allclose(found, expected, atol=atol, equal_nan=True)


def scattered(num: int, margin: float, width: float, height: float) -> torch.Tensor:
    """Points [1, num, 2] at least ``margin`` from the border."""
    room = torch.tensor([width - 1, height - 1]) - 2 * margin
    return margin + room * torch.rand(1, num, 2, generator=torch.Generator().manual_seed(0))


def of_probs(rows: list[list[float]]) -> torch.Tensor:
    """Logits [1, 1, h, w] of these probabilities."""
    return torch.tensor(rows)[None, None].log()


def test_maps_sum_to_one_whatever_the_logits():
    logits = 100 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = probabilities(logits.to(torch.bfloat16))
    assert found.shape == (2, 3, 4, 5)
    assert found.dtype == torch.float32
    assert torch.allclose(found.sum(dim=(2, 3)), torch.ones(2, 3))


# peaks


def test_a_peak_has_its_golden_values():
    """The peak is at cell (2, 0); its window of 3 holds 0.8 of the mass."""
    logits = of_probs([[0.2, 0.0, 0.6, 0.2]])
    found = peaks(logits, stride=4.0, window=3)
    cell = (2 * 0.6 + 3 * 0.2) / 0.8
    assert found.points.tolist() == [[[pytest.approx((cell + 0.5) * 4 - 0.5), 1.5]]]
    assert found.peak.item() == pytest.approx(0.8)
    square = 0.2 * cell**2 + 0.6 * (2 - cell) ** 2 + 0.2 * (3 - cell) ** 2
    assert found.spread.item() == pytest.approx(4 * square**0.5, rel=1e-5)


def test_the_window_ends_at_the_border():
    found = peaks(of_probs([[0.6, 0.2, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0]]), stride=1.0, window=3)
    assert found.points.tolist() == [[[pytest.approx(0.25), 0]]]


def test_a_window_of_one_cell_is_the_cell_of_the_peak():
    logits = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    at = logits.flatten(2).argmax(dim=2)
    expected = torch.stack([at % 7, at // 7], dim=2).float()
    assert same(peaks(logits, stride=1.0, window=1).points, expected)


@pytest.mark.parametrize("window", [0, 2, -1])
def test_a_window_without_a_middle_is_refused(window):
    with pytest.raises(ValueError, match="odd and positive"):
        peaks(torch.zeros(1, 1, 4, 4), stride=1.0, window=window)


@pytest.mark.parametrize("stride", [1.0, 4.0, 8.0])
@pytest.mark.parametrize(("sigma", "window"), [(0.6, 5), (1.0, 5), (1.4, 7), (2.0, 11)])
def test_the_peaks_of_gaussians_are_their_points(stride, sigma, window):
    points = scattered(200, margin=7 * stride, width=40 * stride, height=30 * stride)
    maps, known = gaussians(points, (30, 40), stride, sigma * stride)
    found = peaks((maps + 1e-30).log(), stride, window)
    assert known.all()
    assert (found.points - points).abs().max() < 0.05 * stride
    assert found.peak.min() > 0.9
    # the mass in the plane lies at a root mean square distance of sqrt(2) sigma
    assert same(found.spread, torch.full((1, 200), 2**0.5 * sigma * stride), atol=0.05 * stride)


def test_peaks_are_finite_for_flat_and_for_extreme_maps():
    for logits in (torch.zeros(1, 1, 6, 6), torch.full((1, 1, 6, 6), -1e4), torch.eye(6) * 1e4):
        found = peaks(logits.reshape(1, 1, 6, 6), stride=4.0)
        assert found.points.isfinite().all()
        assert 0 <= found.peak.item() <= 1
    flat = peaks(torch.zeros(1, 1, 6, 6), stride=4.0)
    assert flat.peak.item() == pytest.approx(9 / 36)


def test_a_point_moves_with_its_map():
    logits = 3 * torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    padded = torch.full((2, 3, 15, 17), -100.0)
    padded[:, :, 3:12, 3:12] = logits
    moved = torch.full((2, 3, 15, 17), -100.0)
    moved[:, :, 5:14, 4:13] = logits
    shift = peaks(moved, stride=4.0).points - peaks(padded, stride=4.0).points
    assert same(shift, torch.tensor([4.0, 8.0]).expand(2, 3, 2), atol=1e-4)


def test_gradients_flow_through_points_and_through_nothing_else():
    logits = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    leaf = logits.clone().requires_grad_()
    found = peaks(leaf, stride=4.0)
    assert not found.peak.requires_grad
    assert not found.spread.requires_grad
    target = found.points.detach() + 1
    before = (found.points - target).abs().sum()
    before.backward()
    assert leaf.grad.isfinite().all()
    assert leaf.grad[0, 0].abs().max() > 0
    after = (peaks(logits - 0.05 * leaf.grad, stride=4.0).points - target).abs().sum()
    assert after < before


# candidates


def test_candidates_are_cells_and_steps_from_them():
    logits = torch.tensor([[0.0, 3.0], [2.0, 1.0]])[None, None]
    offsets = torch.zeros(1, 4, 2, 2)
    offsets[0, :, 0, 1] = torch.tensor([1.0, 0.0, -0.5, 2.0])
    found = centre_candidates(logits, offsets, stride=4.0, top=2)
    assert found.tolist() == [[[[9.5, 1.5], [3.5, 9.5]], [[1.5, 5.5], [1.5, 5.5]]]]


def test_a_map_with_few_cells_has_few_candidates():
    found = centre_candidates(torch.zeros(2, 1, 2, 3), torch.zeros(2, 8, 2, 3), 4.0, top=32)
    assert found.shape == (2, 6, 4, 2)


def test_perfect_maps_have_the_points_as_first_candidate():
    points = scattered(12, margin=10, width=64, height=64).view(3, 4, 2)
    centre = points.mean(dim=1)
    size, stride = (16, 16), 4.0
    steps, cell = offsets_at(points, centre, size, stride)
    offsets = torch.zeros(3, 8, 256)
    offsets.scatter_(2, cell[:, None, None].expand(3, 8, 1), steps.reshape(3, 8, 1))
    logits = centre_map(centre, size, stride, sigma_px=6.0)
    found = centre_candidates(logits, offsets.view(3, 8, 16, 16), stride, top=5)
    assert same(found[:, 0], points, atol=1e-4)


def test_the_nearest_candidate_is_chosen_by_the_points_that_are_known():
    candidates = torch.tensor([[[[0.0, 0], [9, 9]], [[5, 5], [1, 1]]]])
    assert nearest_candidate(candidates, torch.tensor([[[1.0, 0], [8, 8]]])).tolist() == [
        [[0, 0], [9, 9]]
    ]
    assert nearest_candidate(candidates, torch.tensor([[[4.0, 4], NONE]])).tolist() == [
        [[5, 5], [1, 1]]
    ]
    assert nearest_candidate(candidates, torch.tensor([[NONE, NONE]])).tolist() == [
        [[0, 0], [9, 9]]
    ]


def test_a_row_that_is_among_its_candidates_is_its_nearest():
    candidates = torch.rand(4, 6, 3, 2, generator=torch.Generator().manual_seed(0))
    chosen = torch.tensor([5, 0, 3, 3])
    rows = candidates[torch.arange(4), chosen]
    assert same(nearest_candidate(candidates, rows), rows)


# fusing


def test_fused_points_lie_between_both_and_fall_back_to_the_known_one():
    track = torch.tensor([[[0.0, 4.0], [1.0, 1.0], NONE, NONE]])
    detect = torch.tensor([[[8.0, 0.0], NONE, [2.0, 2.0], NONE]])
    expected = torch.tensor([[[6.0, 1.0], [1.0, 1.0], [2.0, 2.0], NONE]])
    assert same(fuse(track, detect, 0.25), expected)


def test_whole_shares_give_one_of_both_and_shares_may_differ_by_point():
    track, detect = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    assert same(fuse(track, detect, 1.0), track)
    assert same(fuse(track, detect, 0.0), detect)
    by_point = torch.tensor([[[1.0], [0.0]]])
    assert fuse(track, detect, by_point).tolist() == [[[0, 0], [1, 1]]]


def test_cells_lie_in_the_middle_of_their_pixels():
    assert in_image(torch.tensor([0.0, 1.0]), 4.0).tolist() == [1.5, 5.5]
    assert in_image(torch.tensor([3.0]), 1.0).tolist() == [3.0]
