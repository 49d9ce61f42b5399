"""The loss of one training step: labelled rows, selected rows, and weak-to-strong consistency.

Every row carries a *target mass*: its target distribution times its weight times its term's
coefficient. A row's loss is -(mass * log p).sum(), so weights, soft targets, mixup and the choice
of normaliser are one formula, and the sum over the rows of all workers is the loss of the batch.

Legend: B rows, C classes.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainables.augment import STRONG, WEAK, ViewSpec
from trainables.schedules import Bounds, Scalar
from trainables.spec import Spec

Weight = Annotated[Scalar, Bounds(low=0, over=("rounds", "steps"))]
Share = Annotated[Scalar, Bounds(low=0, high=1, over=("rounds", "steps"))]


class LabelledTerm(Spec):
    """Cross-entropy on labelled rows; always the mean over the labelled rows of the batch."""

    weight: Weight = 1.0
    """Weight of the term."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label spread over all classes."""
    view: Literal["weak", "strong"] = "weak"
    """View of the labelled rows."""


class SelectedTerm(Spec):
    """Cross-entropy on the selection's targets; acts from the first round that has a selection."""

    weight: Weight = 1.0
    """Weight of the term."""
    normalise: Literal["selected", "weight_mass"] = "selected"
    """Denominator: rows drawn from the selection, or the sum of their weights."""
    view: Literal["weak", "strong"] = "strong"
    """View of the selected rows."""


class ConsistencyTerm(Spec):
    """Confident labels of a weak view are the targets of a strong view of the same pool row.

    Source: Sohn et al., FixMatch, NeurIPS 2020, arXiv:2001.07685, equation 4; soft targets as in
    Xie et al., UDA, NeurIPS 2020, arXiv:1904.12848.
    Departs from the paper: the weak view is labelled in evaluation mode, in a pass of its own.
    """

    weight: Weight = 1.0
    """Weight of the term."""
    first_round: Annotated[int, Field(ge=0)] = 1
    """Round from which the term acts; 0 trains the first student with it as well."""
    threshold: Share = 0.95
    """Least confidence of the weak view for its label to count."""
    labels_from: Literal["student", "teacher"] = "student"
    """Which network labels the weak view at each step."""
    target: Literal["hard", "soft"] = "hard"
    """Most probable class, or the whole distribution."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Soft targets are sharpened by p^(1/temperature); the threshold reads p itself."""
    align: bool = False
    """Move targets towards a uniform class balance (running mean of predictions, decay 0.99)."""
    normalise: Literal["all", "selected"] = "all"
    """Denominator: all pool rows of the batch, or the accepted ones."""


class Objective(Spec):
    """The named terms of a student's loss and the views they read."""

    labelled: LabelledTerm = LabelledTerm()
    """Term on labelled rows."""
    selected: SelectedTerm = SelectedTerm()
    """Term on the selection."""
    consistency: ConsistencyTerm | None = None
    """Term on pool rows without stored labels; none by default."""
    mixup_alpha: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Beta(alpha, alpha) of mixup among labelled and selected rows; 0 mixes nothing."""
    weak: ViewSpec = WEAK
    """The weak view."""
    strong: ViewSpec = STRONG
    """The strong view."""


def cross_entropy(logits: Tensor, mass: Tensor) -> Tensor:
    """Sum over rows of -(mass * log softmax(logits)); logits and mass [B, C], scalar out."""
    return -(mass * torch.log_softmax(logits.float(), dim=1)).sum()


def consistency_mass(
    term: ConsistencyTerm, probs: Tensor, threshold: float, marginal: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Target mass [B, C] of a weak view's probabilities [B, C], and which rows count, bool [B].

    ``marginal`` [C] is the running mean of predictions that ``align`` divides by.
    """
    confidence, _ = probs.max(dim=1)
    accepted = confidence >= threshold
    target = probs
    if marginal is not None:
        target = target / marginal.clamp_min(1e-6)
        target = target / target.sum(dim=1, keepdim=True)
    if term.target == "hard":
        target = torch.nn.functional.one_hot(target.argmax(dim=1), probs.shape[1]).float()
    elif term.temperature != 1:
        target = target.clamp_min(1e-12) ** (1 / term.temperature)
        target = target / target.sum(dim=1, keepdim=True)
    return target * accepted[:, None], accepted


def mixed(values: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """``share * values + (1 - share) * partners`` row by row; ``share`` is [B].

    Source: Zhang et al., mixup, ICLR 2018, arXiv:1710.09412, equation 1.
    """
    share = share.to(values).view(-1, *([1] * (values.ndim - 1)))
    return share * values + (1 - share) * partners
