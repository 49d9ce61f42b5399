"""What maps, offsets and shapes cost.

Every loss comes as a sum and apart from it as what the sum is divided by, so that the parts of a
batch on several workers add up.

Legend: B rows, K points, h x w cells; the last 2 are (x, y).
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainables.landmarks.geometry import known


def heatmap_loss(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """KL divergences of the softmax of maps from their targets, in nats: sum, and sum of weights.

    ``logits`` and ``target`` are [B, K, h, w], ``weight`` [B, K]; 0 is perfect. Points whose target
    is 0 everywhere have no weight.
    """
    goal = target.float().flatten(2)
    log_probs = logits.float().flatten(2).log_softmax(dim=2)
    apart = (torch.special.xlogy(goal, goal) - goal * log_probs).sum(dim=2)
    counted = weight * (goal.sum(dim=2) > 0)
    return (counted * apart).sum(), counted.sum()


def heatmap_distance(
    p: Tensor, q: Tensor, sigma_cells: float, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared differences of probability maps [B, K, h, w]: sum, and sum of ``weight`` [B, K].

    They are summed over the cells and divided by what a Gaussian map of ``sigma_cells`` has
    against nothing, 1 / (4 pi sigma^2): two Gaussians far apart are at distance 2 on any grid.
    """
    apart = (p.float() - q.float()).square().sum(dim=(2, 3)) * (4 * math.pi * sigma_cells**2)
    return (weight * apart).sum(), weight.sum()


def focal_centre_loss(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Focal losses of centre maps [B, 1, h, w], in nats: sum, and the number of centres.

    A cell whose target is 1 is a centre; the nearer another one is to 1 the less it costs. Maps
    without any centre cost nothing, as it is unknown. Source: Law and Deng, CornerNet, ECCV 2018,
    arXiv:1808.01244, equation 1, with alpha 2 and beta 4.
    """
    x, goal = logits.float(), target.float()
    probs, centre = x.sigmoid(), goal == 1
    hit = (1 - probs).square() * logsigmoid(x)
    rest = (1 - goal).pow(4) * probs.square() * logsigmoid(-x)
    rows = -torch.where(centre, hit, rest).sum(dim=(1, 2, 3))
    per_row = centre.sum(dim=(1, 2, 3))
    return (rows * (per_row > 0)).sum(), per_row.sum()


def offset_loss(offsets: Tensor, target: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute differences of offsets at the centre's cell: sum, and number of points.

    ``offsets`` [B, 2K, h, w] are (x, y) of one point after the other; ``target`` [B, K, 2], NaN for
    points that count nothing, and ``cell`` [B] are those of `trainables.landmarks.encode`. Those
    of a point's two coordinates are added. Source: Zhou et al., Objects as points, 2019,
    arXiv:1904.07850, section 4.
    """
    index = cell[:, None, None].expand(-1, offsets.shape[1], 1)
    said = offsets.flatten(2).gather(2, index).float().view(target.shape)
    counted = known(target)
    goal = torch.where(counted[..., None], target, said.detach())
    return (said - goal).abs().sum(), counted.sum()


def structure_loss(points_a: Tensor, points_b: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Squared changes of extent between two frames of a clip: sum, and number of rows.

    A frame's extent is the sum over its points [B, K, 2] of their squared distance from their
    mean, in units of the image's ``side`` (in pixels). Only points known in both frames count, and
    a row's squared change is divided by their number; rows with fewer than two count nothing.
    """
    both = known(points_a) & known(points_b)
    number = both.sum(dim=1)
    one, other = (_extent(points / side, both) for points in (points_a, points_b))
    rows = (one - other).square() / number.clamp_min(1)
    return rows.sum(), (number > 1).sum()


def _extent(points: Tensor, counted: Tensor) -> Tensor:
    """Summed squared distances [B] of the counted points [B, K] from their mean."""
    use = counted[..., None]
    held = torch.where(use, points, 0.0)
    mean = held.sum(dim=1, keepdim=True) / use.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.where(use, held - mean, 0.0).square().sum(dim=(1, 2))
