"""The selectors of a prediction table, each a small settings object with one `fit`.

Every selector is fitted on a :class:`Sketch` (and, if it asks, on the out-of-fold predictions of
the labelled rows) and becomes a :class:`Rule`, which is applied to any block of rows on its own.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainables.beliefs import Beliefs
from trainables.schedules import Bounds, Scalar, number
from trainables.selectors.sketch import Sketch, row_keys
from trainables.spec import Spec

Share = Annotated[Scalar, Bounds(low=0, high=1)]
NEVER = 2.0
"""A least confidence that no row reaches."""
Count = Annotated[Scalar, Bounds(low=1)]


@dataclass(frozen=True)
class Labelled:
    """What selectors may know of the labelled rows."""

    class_rows: np.ndarray
    """Labelled rows of each class, int64 [C]."""
    out_of_fold: Beliefs | None = None
    """Predictions of each labelled row by a student that never saw it."""
    labels: np.ndarray | None = None
    """True labels of the out-of-fold rows, int64 [N]."""


@dataclass(frozen=True)
class Rule:
    """Accepts a row whose key reaches the cut of its predicted class and its class's confidence."""

    cuts: tuple[int, ...]
    """Least accepted key of each class [C]."""
    least: tuple[float, ...]
    """Least accepted confidence of each class [C]."""
    coarse: bool
    seed: int

    def accepts(self, beliefs: Beliefs) -> np.ndarray:
        """Which rows are accepted, bool [N]; row by row."""
        keys = row_keys(beliefs, coarse=self.coarse, seed=self.seed)
        cuts = np.array(self.cuts, dtype=np.uint64)[beliefs.labels]
        least = np.array(self.least)[beliefs.labels]
        accepted = beliefs.usable() & (keys >= cuts) & (beliefs.confidence >= least)
        return np.asarray(accepted)

    def describe(self) -> dict[str, float]:
        """Thresholds in words that a record can hold."""
        return {f"least_confidence/{k}": v for k, v in enumerate(self.least)}


class Everything(Spec):
    """Accept every row that the teacher labelled."""

    kind: Literal["everything"] = "everything"
    needs_out_of_fold: ClassVar[bool] = False

    def fit(self, sketch: Sketch, labelled: Labelled, seed: int) -> Rule:
        del labelled
        return _rule(sketch, seed)


class Threshold(Spec):
    """Accept rows at least this confident. Source: Lee, Pseudo-Label, ICML workshop 2013."""

    kind: Literal["threshold"] = "threshold"
    threshold: Share = 0.95
    """Least accepted confidence, in [0, 1]."""
    needs_out_of_fold: ClassVar[bool] = False

    def fit(self, sketch: Sketch, labelled: Labelled, seed: int) -> Rule:
        del labelled
        # as float32, which is how confidences are stored: 0.9 accepts a stored 0.9
        least = float(np.float32(number(self.threshold)))
        return _rule(sketch, seed, least=[least] * sketch.num_classes)


class TopShare(Spec):
    """Accept the most confident share of the whole pool, whatever the class; ties enter.

    Source: Cascante-Bonilla et al., Curriculum Labeling, AAAI 2021, arXiv:2001.06001, Algorithm 1:
    the cut is the (1 - share) quantile of all confidences, linear between order statistics.
    """

    kind: Literal["top_share"] = "top_share"
    share: Share = 0.2
    """Share of the pool to accept, in [0, 1]."""
    needs_out_of_fold: ClassVar[bool] = False

    def fit(self, sketch: Sketch, labelled: Labelled, seed: int) -> Rule:
        del labelled
        share = number(self.share)
        cut = sketch.quantile(1 - share) if share else NEVER
        return _rule(sketch, seed, least=[cut] * sketch.num_classes)


class ClassShare(Spec):
    """Accept the most confident share of each predicted class, at least one row of each."""

    kind: Literal["class_share"] = "class_share"
    share: Share = 0.5
    """Share of each predicted class to accept, in [0, 1]."""
    least_confidence: Share = 0.0
    """Rows less confident than this are never accepted."""
    needs_out_of_fold: ClassVar[bool] = False

    def fit(self, sketch: Sketch, labelled: Labelled, seed: int) -> Rule:
        del labelled
        share, floor = number(self.share), number(self.least_confidence)
        take = [math.ceil(share * n - 1e-9) for n in sketch.class_rows().tolist()]
        cuts = [sketch.class_cut(k, n) for k, n in enumerate(take)]
        return _rule(sketch, seed, cuts=cuts, least=[floor] * sketch.num_classes)


class ClassTopK(Spec):
    """Accept the k most confident rows of each predicted class; ties are broken by a seeded hash.

    Source: Xie et al., Noisy Student, CVPR 2020, arXiv:1911.04252, section 2 (filtering).
    """

    kind: Literal["class_top_k"] = "class_top_k"
    k: Count = 100
    """Rows of each class to accept at most."""
    least_confidence: Share = 0.0
    """Rows less confident than this are never accepted."""
    needs_out_of_fold: ClassVar[bool] = False

    def fit(self, sketch: Sketch, labelled: Labelled, seed: int) -> Rule:
        del labelled
        k, floor = int(number(self.k)), number(self.least_confidence)
        cuts = [sketch.class_cut(label, k) for label in range(sketch.num_classes)]
        return _rule(sketch, seed, cuts=cuts, least=[floor] * sketch.num_classes)


class OutOfFoldPrecision(Spec):
    """Accept by class from the confidence where out-of-fold labelled rows reach a precision.

    For each class: the smallest threshold whose out-of-fold rows predicted as it are right with at
    least ``precision``; classes with fewer than ``least_support`` such rows use all classes' rows.
    House rule: no published source fixes it.
    """

    kind: Literal["out_of_fold_precision"] = "out_of_fold_precision"
    precision: Share = 0.9
    """Precision to reach on the labelled rows, in [0, 1]."""
    least_support: Annotated[int, Field(ge=1)] = 5
    """Out-of-fold rows that a class needs for a threshold of its own."""
    needs_out_of_fold: ClassVar[bool] = True

    def fit(self, sketch: Sketch, labelled: Labelled, seed: int) -> Rule:
        beliefs, labels = labelled.out_of_fold, labelled.labels
        if beliefs is None or labels is None:
            raise ValueError("out_of_fold_precision needs out-of-fold predictions")
        right = beliefs.labels == labels
        target = number(self.precision)
        shared = _least_confidence(beliefs.confidence, right, target)
        least = [shared] * sketch.num_classes
        for label in range(sketch.num_classes):
            mine = beliefs.labels == label
            if mine.sum() >= self.least_support:
                least[label] = _least_confidence(beliefs.confidence[mine], right[mine], target)
        return _rule(sketch, seed, least=least)


Selector = Annotated[
    Everything | Threshold | TopShare | ClassShare | ClassTopK | OutOfFoldPrecision,
    Field(discriminator="kind"),
]


def _rule(
    sketch: Sketch, seed: int, cuts: list[int] | None = None, least: list[float] | None = None
) -> Rule:
    num = sketch.num_classes
    return Rule(tuple(cuts or [0] * num), tuple(least or [0.0] * num), sketch.coarse, seed)


def _least_confidence(confidence: np.ndarray, right: np.ndarray, precision: float) -> float:
    """Smallest confidence from which rows reach the precision; above 1 if none does."""
    order = np.argsort(-confidence, kind="stable")
    reached = right[order].cumsum() / np.arange(1, len(order) + 1)
    whole = np.diff(confidence[order], append=-1.0) != 0  # equal confidences enter together
    good = np.flatnonzero((reached >= precision) & whole)
    return float(confidence[order[good[-1]]]) if len(good) else NEVER
