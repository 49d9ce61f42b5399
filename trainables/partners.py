"""Partners: a second network that trains beside the student inside a round.

Legend: b rows of this worker.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from trainables.schedules import Bounds, Linear, Scalar
from trainables.selectors.running import Running
from trainables.spec import Spec

Weight = Annotated[Scalar, Bounds(low=0, over=("rounds", "steps"))]


class Peer(Spec):
    """A second student of another seed; each labels the pool rows of a step for the other.

    Both learn by the same objective. Source: Chen et al., Cross pseudo supervision, CVPR 2021,
    arXiv:2106.01226, equations 1 to 4. Departs from the paper: labels are made from weak views, in
    evaluation mode, for strong ones.
    """

    kind: Literal["peer"] = "peer"
    batches: Literal["same", "own"] = "same"
    """Whether the peer learns the same rows and views at each step, or draws its own, which keeps
    the two further apart."""


class MetaLabels(Spec):
    """Labels of pool rows that are judged by what they do to the labelled loss."""

    labels: Literal["drawn", "best"] = "drawn"
    """Draw a label from the labelling network's distribution, or take the most probable class."""
    consistency: Weight = Linear(start=0.0, end=8.0, until=0.3, over="steps")
    """Weight of the labelling network's own consistency (UDA) loss."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Least confidence of a weak view for the consistency loss."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.7
    """Targets of the consistency loss are softmax(logits / temperature)."""
    finetune: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the round, at its end, in which the student learns labelled rows alone."""


class MetaTeacher(MetaLabels):
    """A trained teacher whose labels are judged by what they do to the student's labelled loss.

    At each step the student learns pool rows by labels that the teacher draws; the teacher learns
    labelled rows, consistency, and its own drawn labels with the weight h = old - new labelled loss
    of the student. Source: Pham et al., Meta pseudo labels, CVPR 2021, arXiv:2003.10580, section 3
    and appendix A: the gradient of the expected new loss by the score function with the old loss
    as a baseline, h and the student reading the same labels.
    Departs from the paper: a running mean of h is subtracted and h is cut to [-1, 1]; the student
    is finetuned on labelled rows in the last steps of the round, not in a training of its own.
    """

    kind: Literal["meta_teacher"] = "meta_teacher"
    baseline: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the running mean that is subtracted from h; 0 subtracts nothing."""
    rate_share: Annotated[float, Field(gt=0, le=10)] = 1.0
    """The teacher's learning rate as a share of the student's."""


class SelfMeta(MetaLabels):
    """A student that is its own meta teacher: two optimiser steps, one set of weights.

    The first learns pool rows by labels that the student gives itself. The second, from the new
    weights, learns labelled rows, consistency, and those same labels with the weight h = old - new
    labelled loss. Source: Ng and Wang, Self meta pseudo labels, arXiv:2212.13420, with the sign of
    h as derived in arXiv:2003.10580.
    Departs from the paper: the second step reads the labels and the strong view of the first; h is
    cut to [-1, 1]; finetuning is the end of the round.
    """

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Least confidence of a weak view for the consistency loss."""
    sign: Literal["derived", "released"] = "derived"
    """'derived': h is the old less the new labelled loss, so that labels which helped grow more
    probable; 'released' is the other way round, as in public code."""


PartnerSpec = Annotated[Peer | MetaTeacher, Field(discriminator="kind")]


class LookAhead(Spec):
    """The teacher follows some steps that the student will not keep, then labels the real one.

    Source: Du et al., Learning from future, NeurIPS 2022, arXiv:2209.07042, algorithms 1 and 2.
    Departs from the released code: the optimiser's state is put back with the weights.
    """

    kind: Literal["deep", "wide"] = "deep"
    """'deep': steps one after the other on this batch; 'wide': each from here on a batch of its
    own, and the teacher follows the mean of their weights."""
    steps: Annotated[int, Field(ge=1, le=10)] = 3
    """Steps ahead."""


@dataclass
class Partner:
    """A second network with its optimiser, and what it remembers."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    running: Running
    baseline: float = 0.0
    """Running mean of h, of a meta teacher."""
