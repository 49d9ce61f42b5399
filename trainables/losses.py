"""Losses of single rows, and penalties on the mean prediction of a batch.

A row loss reads log-probabilities and a *target mass*: the row's target distribution times its
weight. Every row loss grows in proportion to the weight, so the sum over the rows of all workers is
the loss of the batch.

Legend: B rows, C classes.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainables.spec import Spec

Power = Annotated[float, Field(gt=0, le=1)]


class CrossEntropy(Spec):
    """-log p of the target."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    def rows(self, log_probs: Tensor, mass: Tensor) -> Tensor:
        """Losses [B]."""
        return -(mass * log_probs).sum(dim=1)


class BoundedCrossEntropy(Spec):
    """-log p of the target, bounded, with no gradient beyond the bound.

    House rule, for objectives that subtract a cross-entropy and would fall without end. A bound
    near log C, where an untrained network stands, holds against wrong labels as well: rows that
    stay far from theirs are given up.
    """

    kind: Literal["bounded_cross_entropy"] = "bounded_cross_entropy"
    bound: Annotated[float, Field(gt=1, le=100)] = 4.0
    """Largest loss of a row, in units of log C: 1 is what a uniform guess costs, so that a bound
    that is no larger would let nothing be learnt."""

    def rows(self, log_probs: Tensor, mass: Tensor) -> Tensor:
        """Losses [B]."""
        most = self.bound * math.log(log_probs.shape[1])
        return -(mass * log_probs.clamp_min(-most)).sum(dim=1)


class GeneralisedCrossEntropy(Spec):
    """(1 - p^q) / q: cross-entropy for q near 0, the absolute error for q = 1.

    Source: Zhang and Sabuncu, Generalized cross entropy, NeurIPS 2018, arXiv:1805.07836,
    equation 6; truncated as in equation 8.
    Departs from the paper: with ``truncate`` a row is left out at each step at which its p is below
    the bound, instead of by weights that are solved for every ten epochs.
    """

    kind: Literal["generalised_cross_entropy"] = "generalised_cross_entropy"
    q: Power = 0.7
    """The larger, the less a row far from its target moves the weights."""
    truncate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Rows whose p of the target is at most this cost a constant; 0 truncates nothing."""

    def rows(self, log_probs: Tensor, mass: Tensor) -> Tensor:
        """Losses [B]."""
        cost = (1 - (self.q * log_probs).exp()) / self.q
        if self.truncate:
            flat = (1 - self.truncate**self.q) / self.q
            cost = torch.where(log_probs > math.log(self.truncate), cost, cost.new_tensor(flat))
        return (mass * cost).sum(dim=1)


class SymmetricCrossEntropy(Spec):
    """alpha times cross-entropy plus beta times the cross-entropy with target and p exchanged.

    The exchanged part is beta * -log(clip) * (1 - p of the target). Source: Wang et al., Symmetric
    cross entropy, ICCV 2019, arXiv:1908.06112, equations 7 and 8, with log 0 as log(clip).
    """

    kind: Literal["symmetric_cross_entropy"] = "symmetric_cross_entropy"
    alpha: Annotated[float, Field(ge=0, le=100)] = 0.1
    """Weight of the cross-entropy."""
    beta: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Weight of the exchanged cross-entropy."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """What stands for a target probability of zero in the exchanged part."""

    def rows(self, log_probs: Tensor, mass: Tensor) -> Tensor:
        """Losses [B]."""
        exchanged = -math.log(self.clip) * (1 - log_probs.exp())
        return (mass * (exchanged * self.beta - log_probs * self.alpha)).sum(dim=1)


class SquaredError(Spec):
    """Squared distance of probabilities to the target distribution, divided by the classes.

    Source: Tarvainen and Valpola, Mean teachers, NeurIPS 2017, arXiv:1703.01780, section 2, with
    the division by the number of classes of the released code.
    """

    kind: Literal["squared_error"] = "squared_error"

    def rows(self, log_probs: Tensor, mass: Tensor) -> Tensor:
        """Losses [B]; rows without mass cost nothing."""
        weight = mass.sum(dim=1, keepdim=True)
        target = mass / torch.where(weight == 0, torch.ones_like(weight), weight)
        distance = (log_probs.exp() - target).square().sum(dim=1) / mass.shape[1]
        return weight[:, 0] * distance


RowLoss = Annotated[
    CrossEntropy
    | BoundedCrossEntropy
    | GeneralisedCrossEntropy
    | SymmetricCrossEntropy
    | SquaredError,
    Field(discriminator="kind"),
]


def entropy_rows(log_probs: Tensor) -> Tensor:
    """Entropies of the predictions, in nats [B]."""
    return -(log_probs.exp() * log_probs).sum(dim=1)


def balance_penalty(mean: Tensor, target: Tensor) -> Tensor:
    """KL divergence of the mean prediction [C] from a target balance [C], in nats; a scalar.

    Source: Tanaka et al., Joint optimization, CVPR 2018, arXiv:1803.11364, equation 9; also
    Arazo et al., IJCNN 2020, arXiv:1908.02983, equation 4.
    """
    return (target * (target.clamp_min(1e-12).log() - mean.clamp_min(1e-12).log())).sum()


def fairness_penalty(mean: Tensor, shares: Tensor, expected: Tensor) -> Tensor:
    """Self-adaptive fairness: sum over classes of ``expected`` times log of mean over share.

    ``mean`` [C] is the mean strong-view prediction of the accepted rows, ``shares`` [C] the share
    of them that is predicted as each class, ``expected`` [C] the running mean prediction over the
    running label shares, normalised. Classes that no accepted row is predicted as count nothing.
    Source: Wang et al., FreeMatch, ICLR 2023, arXiv:2205.07246, equations 9 to 11; to be
    minimised, as in the released code.
    """
    present = shares > 0
    ratio = torch.where(present, mean / torch.where(present, shares, torch.ones_like(shares)), 0.0)
    ratio = ratio / ratio.sum().clamp_min(1e-12)
    return (expected * torch.where(present, ratio.clamp_min(1e-12).log(), 0.0)).sum()
