"""Selectors whose thresholds follow from the pool itself, class by class.

In the training step these statistics run over the steps, as in the published methods; on a stored
table they are taken over the whole pool at once, which is the same rule with a memory of zero.
Every threshold here is a least confidence for each predicted class.

Legend: C classes, n_k rows predicted as class k.
"""

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainables.schedules import Bounds, Scalar, number
from trainables.selectors.rules import (
    NEARLY_ALL,
    NEVER,
    Labelled,
    Outlook,
    Rule,
    Share,
    Statistics,
    make_rule,
)
from trainables.spec import Spec

Mapping = Literal["convex", "linear", "low", "concave"]


class FlexThreshold(Spec):
    """A threshold that falls for classes of which few rows are sure yet.

    With b_k = n_k(c >= threshold) / max(max_j n_j(c >= threshold), unsure rows) the threshold of
    class k is threshold * M(b_k). Source: Zhang et al., FlexMatch, NeurIPS 2021,
    arXiv:2110.08263, equations 5 to 7 and 11. In the training step counts are of every row's last
    sure label, on the table of the whole table. Departs from the paper: no threshold is below
    ``floor``, without which nearly every row passes while most of the pool is unsure.
    """

    kind: Literal["flex_threshold"] = "flex_threshold"
    threshold: Share = 0.95
    """Confidence of a sure row, in [0, 1]."""
    mapping: Mapping = "convex"
    """M: b/(2-b), (b+1)/2, 1/(2-b), or (ln(b+1)+0.5)/(ln 2+0.5)."""
    count_unsure: bool = True
    """Whether unsure rows count as a class of their own (the paper's warm-up)."""
    floor: Share = 0.3
    """No class accepts rows less confident than this, in [0, 1]."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def sure_from(self) -> float:
        """Confidence from which a row's label is sure."""
        return number(self.threshold)

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        threshold, floor = number(self.threshold), number(self.floor)
        sure, unsure = pool.sure_rows(threshold)
        progress = sure / max(1, sure.max(initial=0), unsure if self.count_unsure else 0)
        least = np.maximum(threshold * mapped(self.mapping, progress), floor)
        return make_rule(pool, seed, least=as_stored(least))

    def accepts_all(self, outlook: Outlook) -> bool:
        return outlook.all_reach(self.threshold) and outlook.all_reach(self.floor)


def mapped(mapping: Mapping, progress: np.ndarray) -> np.ndarray:
    """M(b) of FlexMatch for shares b in [0, 1]."""
    if mapping == "convex":
        return np.asarray(progress / (2 - progress))
    if mapping == "linear":
        return np.asarray((progress + 1) / 2)
    if mapping == "low":
        return np.asarray(1 / (2 - progress))
    return np.asarray((np.log(progress + 1) + 0.5) / (math.log(2) + 0.5))


class FreeThreshold(Spec):
    """The pool's mean confidence, lowered for classes that are predicted less.

    Source: Wang et al., FreeMatch, ICLR 2023, arXiv:2205.07246, equations 4 to 6, with a memory of
    zero over the whole pool; the quantile is an option of the released code.
    """

    kind: Literal["free_threshold"] = "free_threshold"
    quantile: Share | None = None
    """The confidence below which this share of the pool lies stands for the mean, if set."""
    floor: Share = 0.0
    """The mean confidence counts as at least this, in [0, 1]."""
    ceiling: Share = 1.0
    """The mean confidence counts as at most this, in [0, 1]."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        middle = pool.mean_confidence()
        if self.quantile is not None:
            middle = pool.quantile(number(self.quantile))
        whole = min(max(middle, number(self.floor)), number(self.ceiling))
        shares = pool.shares()
        return make_rule(pool, seed, least=as_stored(whole * shares / shares.max()))

    def accepts_all(self, outlook: Outlook) -> bool:
        low = self.quantile is not None and number(self.quantile) <= 1 - NEARLY_ALL
        return low or outlook.all_reach(self.ceiling)


class RelativeThreshold(Spec):
    """A share of the mean confidence on the labelled rows.

    They are predicted out of fold and stand behind the calibrators; in a training step they are
    those of the batch, as the network tells them. Source: Berthelot et al., AdaMatch, ICLR 2022,
    arXiv:2106.04732, section 3.2.
    """

    kind: Literal["relative_threshold"] = "relative_threshold"
    share: Share = 0.9
    """Share of the labelled rows' mean confidence, in [0, 1]."""
    needs_labelled: ClassVar[bool] = True
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        if labelled.beliefs is None:
            raise ValueError("relative_threshold needs out-of-fold predictions")
        least = number(self.share) * float(labelled.beliefs.confidence.mean(dtype=np.float64))
        return make_rule(pool, seed, least=as_stored(np.full(pool.num_classes, least)))

    def accepts_all(self, outlook: Outlook) -> bool:
        return outlook.all_reach(self.share)


class ClassRate(Spec):
    """The most confident share of each predicted class, the larger the rarer its labelled rows.

    With classes ordered by labelled rows N_1 >= ... >= N_C, the l-th takes the share
    (N_{C+1-l} / N_1)^(1 / alpha). Source: Wei et al., CReST, CVPR 2021, arXiv:2102.09559, section
    3.2.
    """

    kind: Literal["class_rate"] = "class_rate"
    alpha: Annotated[Scalar, Bounds(low=0.1, high=100, over=("rounds", "steps"))] = 3.0
    """The larger, the more is taken of frequent classes."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        rates = class_rates(labelled.class_rows, number(self.alpha))
        rows = pool.class_rows()
        take = [math.floor(rates[k] * rows[k] + 1e-9) for k in range(pool.num_classes)]
        return make_rule(pool, seed, cuts=[pool.class_cut(k, n) for k, n in enumerate(take)])

    def accepts_all(self, outlook: Outlook) -> bool:
        rates = class_rates(np.array(outlook.class_rows), number(self.alpha))
        return bool(rates.min() >= NEARLY_ALL)


def class_rates(class_rows: np.ndarray, alpha: float) -> np.ndarray:
    """Share that each class gives, float64 [C], from labelled rows by class."""
    rows = np.maximum(np.asarray(class_rows, np.float64), 1.0)
    order = np.argsort(-rows, kind="stable")
    rates = np.empty(len(rows))
    rates[order] = (rows[order][::-1] / rows[order][0]) ** (1 / alpha)
    return rates


class EqualRate(Spec):
    """Of every predicted class the share that a threshold takes of the most frequent one.

    Source: Guo and Li, Class-imbalanced semi-supervised learning with adaptive thresholding (ADSH),
    ICML 2022; the most frequent class is the one with most labelled rows, of equal ones the one
    predicted most. Departs from the released code: there it is the first class, here a class that
    is never predicted is none.
    """

    kind: Literal["equal_rate"] = "equal_rate"
    threshold: Share = 0.95
    """Least confidence in the most frequent class, in [0, 1]."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        rows = pool.class_rows()
        first = int(np.lexsort((rows, np.where(rows > 0, labelled.class_rows, -1)))[-1])
        num, threshold = pool.num_classes, float(np.float32(number(self.threshold)))
        sure = pool.reaching((0,) * num, (threshold,) * num)
        rate = int(sure[first]) / max(1, int(rows[first]))
        take = [math.floor(rate * n + 1e-9) for n in rows.tolist()]
        return make_rule(pool, seed, cuts=[pool.class_cut(k, n) for k, n in enumerate(take)])

    def accepts_all(self, outlook: Outlook) -> bool:
        return outlook.all_reach(self.threshold)


class LossBound(Spec):
    """Rows whose loss against their own pseudo-label, -log confidence, is under a falling bound.

    The bound is ``scale`` times the labelled rows' mean loss, which is taken out of fold and behind
    the calibrators; in a training step it is that of the batch, as the network tells it. Source:
    Xu et al., Dash, ICML 2021, equation 8; its bound falls as 1.0001 * 1.27^-(t - 1), which is
    ``{schedule: geometric, start: 1.0001, ratio: 0.787}``. Departs from the paper: the mean loss is
    taken anew each time, where there it is that after the warm-up.
    """

    kind: Literal["loss_bound"] = "loss_bound"
    scale: Annotated[Scalar, Bounds(low=0, high=100, over=("rounds", "steps"))] = 1.0
    """Bound as a multiple of the labelled rows' mean loss."""
    least_bound: Annotated[float, Field(gt=0)] = 0.05
    """The bound never falls below this, in nats."""
    needs_labelled: ClassVar[bool] = True
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        beliefs, labels = labelled.beliefs, labelled.labels
        if beliefs is None or labels is None:
            raise ValueError("loss_bound needs out-of-fold predictions")
        losses = -beliefs.log_probs[np.arange(len(labels)), labels].astype(np.float64)
        bound = max(number(self.scale) * float(losses.mean()), self.least_bound)
        return make_rule(pool, seed, least=as_stored(np.full(pool.num_classes, np.exp(-bound))))

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return False


class MixtureThreshold(Spec):
    """By class, where the more confident of two Gaussian components begins.

    Source: Wang et al., Consistent-Teacher, CVPR 2023, arXiv:2209.01589, section 3.3. Departs from
    the paper: all rows of the class instead of a queue; the precision starts at 4 / variance, since
    with the released 1 the fit stops at once.
    """

    kind: Literal["mixture_threshold"] = "mixture_threshold"
    cut: Literal["lowest", "densest"] = "densest"
    """Threshold at the lowest score of the confident component, or at its densest one."""
    least_rows: Annotated[int, Field(ge=4)] = 100
    """Classes with fewer rows use ``threshold``."""
    threshold: Share = 0.95
    """Threshold of classes with few rows, in [0, 1]."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        least = np.full(pool.num_classes, number(self.threshold))
        for label in range(pool.num_classes):
            scores, counts = pool.confidences(label)
            if counts.sum() >= self.least_rows:
                least[label] = mixture_cut(scores, counts, self.cut)
        return make_rule(pool, seed, least=as_stored(least))

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return False


def mixture_cut(scores: np.ndarray, counts: np.ndarray, cut: str) -> float:
    """The score from which the larger of two Gaussian components holds; scores sorted, float64."""
    if scores[0] == scores[-1]:
        return float(scores[0])
    shares, weights = counts / counts.sum(), np.array([0.5, 0.5])
    means = np.array([scores[0], scores[-1]])
    centre = float(shares @ scores)
    variances = np.full(2, max(1e-12, float(shares @ (scores - centre) ** 2) / 4))
    before = -np.inf
    for _ in range(500):
        logs = (
            np.log(weights)
            - 0.5 * np.log(2 * np.pi * variances)
            - (scores[:, None] - means) ** 2 / (2 * variances)
        )
        whole = np.logaddexp.reduce(logs, axis=1)
        belongs = np.exp(logs - whole[:, None]) * shares[:, None]
        now = float(shares @ whole)
        if now - before < 1e-9:
            break
        before, mass = now, belongs.sum(axis=0) + 1e-300
        weights, means = mass / mass.sum(), (belongs * scores[:, None]).sum(axis=0) / mass
        spread = (belongs * (scores[:, None] - means) ** 2).sum(axis=0) / mass
        variances = np.maximum(spread, 1e-6)
    upper = int(np.argmax(means))
    positive = logs[:, upper] >= logs[:, 1 - upper]
    if not positive.any():
        return float(scores[-1])
    found = scores[positive]
    return float(found[0] if cut == "lowest" else found[np.argmax(whole[positive])])


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
    needs_labelled: ClassVar[bool] = True
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        beliefs, labels = labelled.beliefs, labelled.labels
        if beliefs is None or labels is None:
            raise ValueError("out_of_fold_precision needs out-of-fold predictions")
        right = beliefs.labels == labels
        target = number(self.precision)
        shared = _least_confidence(beliefs.confidence, right, target)
        least = [shared] * pool.num_classes
        for label in range(pool.num_classes):
            mine = beliefs.labels == label
            if mine.sum() >= self.least_support:
                least[label] = _least_confidence(beliefs.confidence[mine], right[mine], target)
        return make_rule(pool, seed, least=least)

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return False


def _least_confidence(confidence: np.ndarray, right: np.ndarray, precision: float) -> float:
    """Smallest confidence from which rows reach the precision; above 1 if none does."""
    order = np.argsort(-confidence, kind="stable")
    reached = right[order].cumsum() / np.arange(1, len(order) + 1)
    whole = np.diff(confidence[order], append=-1.0) != 0  # equal confidences enter together
    good = np.flatnonzero((reached >= precision) & whole)
    return float(confidence[order[good[-1]]]) if len(good) else NEVER


def as_stored(least: np.ndarray) -> list[float]:
    """Thresholds as float32, which is how confidences are stored: 0.9 accepts a stored 0.9."""
    return [float(value) if value <= 1 else NEVER for value in least.astype(np.float32)]
