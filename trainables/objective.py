"""The loss of one training step: labelled rows, selected rows, weak-to-strong consistency, balance.

Every row carries a *target mass*: its target distribution times its weight times its term's
coefficient. A row's loss is proportional to its mass, so weights, soft targets, mixup and the
choice of normaliser are one formula, and the sum over the rows of all workers is the loss of the
batch.

Legend: B rows, C classes.
"""

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from trainables.augment import STRONG, WEAK, ViewSpec
from trainables.auxiliary import RepresentationSpec
from trainables.calibrators import Calibrator
from trainables.losses import CrossEntropy, RowLoss
from trainables.pool_mixing import AnchorMix, PoolMix
from trainables.schedules import Bounds, Scalar
from trainables.selectors.fixed import Threshold
from trainables.selectors.library import Selector, fills
from trainables.selectors.running import Memory
from trainables.spec import Spec
from trainables.targets import TargetSpec

Weight = Annotated[Scalar, Bounds(low=0, over=("rounds", "steps"))]
Share = Annotated[Scalar, Bounds(low=0, high=1, over=("rounds", "steps"))]
Rows = Literal["all", "unlabelled"]


class LabelledTerm(Spec):
    """Loss of labelled rows; always the mean over the labelled rows of the batch."""

    weight: Weight = 1.0
    """Weight of the term."""
    loss: RowLoss = CrossEntropy()
    """Loss of a row."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label spread over all classes."""
    view: Literal["weak", "strong", "both"] = "weak"
    """View of the labelled rows; 'both' trains on two views of each, half as much on either."""
    anneal: Literal["none", "linear", "exp", "log"] = "none"
    """Training signal annealing: rows whose own class is already more probable than a bound that
    rises from 1/C to 1 over the round don't count; how it rises."""


class SelectedTerm(Spec):
    """Loss of the selection's rows; acts from the first round that has a selection."""

    weight: Weight = 1.0
    """Weight of the term."""
    loss: RowLoss = CrossEntropy()
    """Loss of a row."""
    normalise: Literal["selected", "weight_mass"] = "selected"
    """Denominator: rows drawn from the selection, or the sum of their weights."""
    view: Literal["weak", "strong"] = "strong"
    """View of the selected rows."""


class ConsistencyTerm(Spec):
    """Labels of a weak view, chosen at each step, are the targets of a strong view of the same row.

    Source: Sohn et al., FixMatch, NeurIPS 2020, arXiv:2001.07685, equation 4. The calibrators, the
    selector and the weighting are those of the stored table, fitted on running statistics.
    Departs from the paper: the view is labelled in evaluation mode, in a pass of its own;
    running statistics take in the step's own rows before they are used.
    """

    weight: Weight = 1.0
    """Weight of the term."""
    first_round: Annotated[int, Field(ge=0)] = 1
    """Round from which the term acts; 0 trains the first student with it as well."""
    labels_from: Literal["student", "teacher"] = "student"
    """Which network labels at each step; a peer labels in place of either."""
    labels_view: Literal["weak", "strong"] = "weak"
    """View that is labelled; 'strong' labels the very images that are then trained on."""
    statistics: Literal["running", "batch"] = "running"
    """What batch norm reads while labels are made: its running means, or the rows at hand."""
    calibrators: tuple[Calibrator, ...] = ()
    """Corrections of its beliefs before the selector sees them, one after the other."""
    selector: Selector = Threshold(threshold=0.95)
    """Which rows of the batch count."""
    targets: TargetSpec = TargetSpec()
    """What strong views are trained towards, and how much a row counts."""
    memory: Memory = Memory()
    """How long calibrators, selector and weighting remember the batches before."""
    mix: PoolMix | None = None
    """Blend strong views with those of surer rows; none by default."""
    loss: RowLoss = CrossEntropy()
    """Loss of a row."""
    normalise: Literal["all", "selected", "weight_mass"] = "all"
    """Denominator: all pool rows of the batch, the accepted ones, or the sum of their weights."""
    debias: bool = False
    """Subtract the same term over the labelled rows, labelled by the network as if they were not.
    Source: Schmutz et al., Don't fear the unlabelled, ICLR 2023, arXiv:2203.07512, equation 6."""
    fairness: Weight = 0.0
    """Weight of self-adaptive fairness on the accepted rows (FreeMatch, arXiv:2205.07246,
    equation 11)."""

    @model_validator(mode="after")
    def _acts_in_the_step(self) -> Self:
        weight = self.targets.weight
        wrong = [f"calibrator {c.kind}" for c in self.calibrators if c.kind == "transport"]
        wrong += [f"selector {self.selector.kind}"] if self.selector.needs_sample else []
        wrong += [f"fill of selector {self.selector.kind}"] if fills(self.selector) else []
        wrong += (
            [f"weighting {weight.kind}"] if weight.needs_sample or weight.kind == "mass" else []
        )
        if wrong:
            raise ValueError(f"{' and '.join(wrong)} can act on the stored table only")
        trusting = [f"calibrator {c.kind}" for c in self.calibrators if c.needs_labelled]
        trusting += ["selector out_of_fold_precision"] * (
            self.selector.kind == "out_of_fold_precision"
        )
        if trusting:
            raise ValueError(
                f"{' and '.join(trusting)} must see labelled rows that the network was not trained "
                "on, and a step has none: let it act on the stored table"
            )
        if sum(c.kind == "align" for c in self.calibrators) > 1:
            raise ValueError("calibrators align twice: keep one of them")
        if self.mix is not None and (self.debias or self.fairness != 0):
            raise ValueError("mix blends rows that debias and fairness need apart: leave them out")
        if isinstance(self.mix, AnchorMix) and weight.kind != "one":
            raise ValueError("mix anchors lets every row count alike: set targets.weight to one")
        return self

    @property
    def needs_labelled(self) -> bool:
        """Whether it must know what the network believes about the labelled rows of the batch."""
        parts = (self.selector, *self.calibrators)
        return self.debias or any(part.needs_labelled for part in parts)

    @property
    def trains_labelled(self) -> bool:
        """Whether labelled rows of the batch enter its rows."""
        return self.debias or isinstance(self.mix, AnchorMix)


class BalanceTerm(Spec):
    """KL divergence of the batch's mean prediction from a class balance.

    Source: Arazo et al., IJCNN 2020, arXiv:1908.02983, equation 4.
    """

    weight: Weight = 0.8
    """Weight of the term."""
    target: Literal["uniform", "labelled"] = "uniform"
    """Equal shares, or those of the labelled rows."""
    rows: Rows = "all"
    """Rows of the batch that the mean is over: as trained on, so strong and mixed views count."""


class EntropyTerm(Spec):
    """Mean entropy of the predictions, to be minimised.

    Source: Grandvalet and Bengio, NeurIPS 2004; weight as in Arazo et al., arXiv:1908.02983.
    """

    weight: Weight = 0.4
    """Weight of the term."""
    rows: Rows = "all"
    """Rows of the batch that the mean is over."""


class DoublyRobust(Spec):
    """Pseudo-labels for all rows, corrected by what they get wrong on the labelled rows.

    With n labelled and N selected rows: (sum of l(pseudo) over all) / (n + N) + alpha * (sum of
    l(true) - l(pseudo) over the labelled rows) / n. The pseudo-labels of labelled rows are made out
    of fold. Source: Zhu et al., Doubly robust self-training, NeurIPS 2023, arXiv:2306.00265,
    equations 1 and 2; alpha rises linearly as in section 3.
    """

    alpha: Share
    """Weight of the correction; 1 is unbiased whatever the teacher."""


class Objective(Spec):
    """The named terms of a student's loss and the views they read."""

    labelled: LabelledTerm = LabelledTerm()
    """Term on labelled rows."""
    selected: SelectedTerm = SelectedTerm()
    """Term on the selection."""
    consistency: ConsistencyTerm | None = None
    """Term on pool rows without stored labels; none by default."""
    balance: BalanceTerm | None = None
    """Term on the mean prediction of the batch; none by default."""
    entropy: EntropyTerm | None = None
    """Term on how sure predictions are; none by default."""
    representation: RepresentationSpec | None = None
    """What else is done with the pool rows of the consistency term; nothing by default."""
    doubly_robust: DoublyRobust | None = None
    """Weigh labelled and selected rows doubly robustly, in rounds with a selection."""
    mixup_alpha: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Beta(alpha, alpha) of mixup among labelled and selected rows; 0 mixes nothing. A row keeps
    the larger part of each draw, as in MixMatch, arXiv:1905.02249, equation 9."""
    weak: ViewSpec = WEAK
    """The weak view."""
    strong: ViewSpec = STRONG
    """The strong view."""

    @model_validator(mode="after")
    def _reads_pool_rows(self) -> Self:
        if self.representation is None:
            return self
        if self.consistency is None:
            raise ValueError("representation reads the pool rows of consistency: set that as well")
        blended = [name for name in self.representation.terms if name != "turns"]
        if self.consistency.mix is not None and blended:
            raise ValueError(
                f"consistency.mix blends the rows that representation.{blended[0]} needs apart: "
                "leave one of them out"
            )
        if self.consistency.debias and self.representation.refine is not None:
            raise ValueError("consistency.debias and representation.refine exclude each other")
        return self

    @property
    def reads_batch_means(self) -> bool:
        """Whether a row's gradient depends on the other rows of the batch."""
        fair = self.consistency is not None and self.consistency.fairness != 0
        return self.balance is not None or fair


def annealing_bound(kind: str, share: float, num_classes: int) -> float:
    """The probability from which labelled rows stop to count, at this share of the round.

    Source: Xie et al., UDA, NeurIPS 2020, arXiv:1904.12848, section 3 (training signal annealing).
    """
    risen = {
        "linear": share,
        "exp": math.exp(5 * (share - 1)),
        "log": 1 - math.exp(-5 * share),
    }[kind]
    return risen * (1 - 1 / num_classes) + 1 / num_classes


def annealed(log_probs: Tensor, mass: Tensor, bound: float) -> Tensor:
    """The mass [B, C] without that of rows whose target is more probable than the bound."""
    whole = mass.sum(dim=1)
    told = (log_probs.detach().exp() * mass).sum(dim=1)
    return mass * (told <= bound * whole)[:, None]


def mixed(values: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """``share * values + (1 - share) * partners`` row by row; ``share`` is [B].

    Source: Zhang et al., mixup, ICLR 2018, arXiv:1710.09412, equation 1.
    """
    share = share.to(values).view(-1, *([1] * (values.ndim - 1)))
    return share * values + (1 - share) * partners


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Distributions float32 [B, C] of class indices int64 [B]."""
    return torch.nn.functional.one_hot(labels, num_classes).float()
