"""Selectors whose thresholds or shares are settings: the same for every pool."""

import math
from typing import ClassVar, Literal

import numpy as np

from trainables.schedules import number
from trainables.selectors.rules import (
    NEARLY_ALL,
    NEVER,
    Count,
    Labelled,
    Outlook,
    Rule,
    Share,
    Statistics,
    make_rule,
)
from trainables.spec import Spec


class Everything(Spec):
    """Accept every row that the teacher labelled."""

    kind: Literal["everything"] = "everything"
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        return make_rule(pool, seed)

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return True


class Threshold(Spec):
    """Accept rows at least this confident. Source: Lee, Pseudo-Label, ICML workshop 2013."""

    kind: Literal["threshold"] = "threshold"
    threshold: Share = 0.95
    """Least accepted confidence, in [0, 1]."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        # as float32, which is how confidences are stored: 0.9 accepts a stored 0.9
        least = float(np.float32(number(self.threshold)))
        return make_rule(pool, seed, least=[least] * pool.num_classes)

    def accepts_all(self, outlook: Outlook) -> bool:
        return outlook.all_reach(self.threshold)


class TopShare(Spec):
    """Accept the most confident share of the whole pool, whatever the class; ties enter.

    Source: Cascante-Bonilla et al., Curriculum Labeling, AAAI 2021, arXiv:2001.06001, Algorithm 1:
    the cut is the (1 - share) quantile of all confidences, linear between order statistics.
    """

    kind: Literal["top_share"] = "top_share"
    share: Share = 0.2
    """Share of the pool to accept, in [0, 1]."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        share = number(self.share)
        cut = pool.quantile(1 - share) if share else NEVER
        return make_rule(pool, seed, least=[cut] * pool.num_classes)

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return number(self.share) >= NEARLY_ALL


class ClassShare(Spec):
    """Accept the most confident share of each predicted class, at least one row of each."""

    kind: Literal["class_share"] = "class_share"
    share: Share = 0.5
    """Share of each predicted class to accept, in [0, 1]."""
    least_confidence: Share = 0.0
    """Rows less confident than this are never accepted."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        share, floor = number(self.share), number(self.least_confidence)
        take = [math.ceil(share * n - 1e-9) for n in pool.class_rows().tolist()]
        cuts = [pool.class_cut(k, n) for k, n in enumerate(take)]
        return make_rule(pool, seed, cuts=cuts, least=[floor] * pool.num_classes)

    def accepts_all(self, outlook: Outlook) -> bool:
        return number(self.share) >= NEARLY_ALL and outlook.all_reach(self.least_confidence)


class ClassTopK(Spec):
    """Accept the k most confident rows of each predicted class; ties are broken by a seeded hash.

    Source: Xie et al., Noisy Student, CVPR 2020, arXiv:1911.04252, section 2 (filtering).
    """

    kind: Literal["class_top_k"] = "class_top_k"
    k: Count = 100
    """Rows of each class to accept at most."""
    least_confidence: Share = 0.0
    """Rows less confident than this are never accepted."""
    fill: bool = False
    """Whether a class of which fewer rows are predicted takes rows that others left, those to which
    it is most probable; see `trainables.selectors.filling`."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        return _most_of_each(pool, self.wanted(pool), number(self.least_confidence), seed)

    def wanted(self, pool: Statistics) -> int:
        """Rows to accept of each class."""
        del pool
        return int(number(self.k))

    def accepts_all(self, outlook: Outlook) -> bool:
        rows = number(self.k) * len(outlook.class_rows)
        return rows >= NEARLY_ALL * outlook.pool_rows and outlook.all_reach(self.least_confidence)


class EvenShare(Spec):
    """Accept the most confident rows of each predicted class, up to a share of an even class.

    An even class holds as many rows as all others: pool rows / classes. Source: Menghini et al.,
    GRIP, NeurIPS 2023, arXiv:2306.01669, section 3, where the share grows to 1.
    """

    kind: Literal["even_share"] = "even_share"
    share: Share = 0.5
    """Rows of each class to accept at most, as a share of an even class, in [0, 1]; at least 1."""
    least_confidence: Share = 0.0
    """Rows less confident than this are never accepted."""
    fill: bool = False
    """Whether a class of which fewer rows are predicted takes rows that others left, those to which
    it is most probable; see `trainables.selectors.filling`."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        return _most_of_each(pool, self.wanted(pool), number(self.least_confidence), seed)

    def wanted(self, pool: Statistics) -> int:
        """Rows to accept of each class."""
        even = int(pool.class_rows().sum()) / pool.num_classes
        return max(1, int(number(self.share) * even + 1e-9))

    def accepts_all(self, outlook: Outlook) -> bool:
        return number(self.share) >= NEARLY_ALL and outlook.all_reach(self.least_confidence)


def _most_of_each(pool: Statistics, k: int, floor: float, seed: int) -> Rule:
    cuts = [pool.class_cut(label, k) for label in range(pool.num_classes)]
    return make_rule(pool, seed, cuts=cuts, least=[floor] * pool.num_classes)
