"""What a selector is fitted on, and the rule that it becomes.

Every selector is a small settings object with one `fit`: from :class:`Statistics` of the pool (and,
if it asks, from beliefs about the labelled rows) to a :class:`Rule`, which is applied to any block
of rows on its own. On the stored table the statistics are a sketch of the whole pool, in the
training step they are running ones; the selector is the same.

Legend: C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from trainables.beliefs import Beliefs
from trainables.nearness import Nearness
from trainables.schedules import Bounds, Scalar, number
from trainables.selectors.filling import NONE, Filling
from trainables.selectors.separation import Separation
from trainables.selectors.sketch import confidence_of, row_keys

Share = Annotated[Scalar, Bounds(low=0, high=1, over=("rounds", "steps"))]
NEVER = 2.0
"""A least confidence that no row reaches."""
NEARLY_ALL = 0.99
"""Share of the pool from which nearly all of it is accepted."""
Count = Annotated[Scalar, Bounds(low=1)]


class Statistics(Protocol):
    """What selectors and weightings may know of the pool."""

    @property
    def num_classes(self) -> int: ...

    @property
    def coarse(self) -> bool:
        """Whether keys are coarse ones."""

    def shares(self) -> np.ndarray:
        """Mean probabilities, float64 [C]; uniform over no rows."""

    def mean_confidence(self) -> float:
        """Mean confidence of all rows; 0 over none."""

    def confidence_variance(self) -> float:
        """Unbiased variance of the confidences; 0 over fewer than two rows."""

    def sure_rows(self, least: float) -> tuple[np.ndarray, int]:
        """Rows by predicted class that are at least this confident, int64 [C], and all others."""

    def class_rows(self) -> np.ndarray:
        """Rows predicted as each class, int64 [C]."""

    def confidences(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Sorted confidences of a predicted class, float64, and the rows of each, int64."""

    def class_cut(self, label: int, num_rows: int) -> int:
        """The key from which the ``num_rows`` most confident rows of a class start."""

    def quantile(self, share: float) -> float:
        """Confidence below which ``share`` of all rows lie, linear between order statistics."""

    def sampled_rows(self) -> np.ndarray:
        """Log-probabilities float32 [n, C] of a sample of the pool, where one was taken.

        Raises:
            ValueError: There is none, as in the training step.
        """

    def sampled(self) -> Beliefs:
        """The same sample with ids, and features where the table has them.

        Raises:
            ValueError: There is none, as in the training step.
        """

    def reaching(self, cuts: tuple[int, ...], least: tuple[float, ...]) -> np.ndarray:
        """Rows by predicted class that reach its cut and its least confidence, int64 [C]."""


@dataclass(frozen=True)
class Labelled:
    """What selectors may know of the labelled rows."""

    class_rows: np.ndarray
    """Labelled rows of each class, int64 [C]."""
    beliefs: Beliefs | None = None
    """On the table: about each labelled row, by a student that never saw it. In the step: about
    the labelled rows of the batch, by the network that labels the pool rows."""
    labels: np.ndarray | None = None
    """True labels of those rows, int64 [N]."""
    nearness: Nearness | None = None
    """Where those rows lie among the classes, if the selector asks."""


@dataclass(frozen=True)
class Outlook:
    """What is known of the pool before anything is believed about it.

    A selector's ``accepts_all`` says by it whether its settings, without schedules, mean to accept
    nearly the whole pool whatever is believed: full coverage is no alarm there.
    """

    class_rows: tuple[int, ...]
    """Labelled rows of each class [C]."""
    pool_rows: int
    least_confidence: float
    """What no row's confidence is below: 1 / C of distributions, 0 of other scores."""

    def all_reach(self, bound: Scalar) -> bool:
        """Whether no row's confidence is below this bound."""
        return number(bound) <= self.least_confidence

    @classmethod
    def of_classes(cls, class_rows: Sequence[int], pool_rows: int) -> "Outlook":
        """The outlook where confidences are those of distributions over the classes."""
        return cls(tuple(class_rows), pool_rows, 1 / max(1, len(class_rows)))


class RowRule(Protocol):
    """A rule that reads rows with their features."""

    def accepts(self, beliefs: Beliefs) -> np.ndarray:
        """Which rows are accepted, bool [N]; row by row, never a row of NaN."""


@dataclass(frozen=True)
class Rule:
    """Accepts a row whose key reaches the cut of its predicted class and its class's confidence."""

    cuts: tuple[int, ...]
    """Least accepted key of each class [C]."""
    least: tuple[float, ...]
    """Least accepted confidence of each class [C]."""
    coarse: bool
    seed: int
    separation: Separation | None = None
    """A further rule on the whole row."""
    also: "RowRule | None" = None
    """A further rule on the row and where it lies in feature space."""
    filling: Filling | None = None
    """Where rows go that are not accepted otherwise."""

    def accepts(self, beliefs: Beliefs) -> np.ndarray:
        """Which rows are accepted, bool [N]; row by row."""
        return np.asarray(self.classes(beliefs) >= 0)

    def classes(self, beliefs: Beliefs) -> np.ndarray:
        """The class that each row is accepted as, int64 [N]; -1 of rows that are not accepted."""
        reached = self._reached(beliefs)
        found = np.where(reached, beliefs.labels, -1)
        if self.filling is not None:
            filled = self.filling.classes(beliefs, beliefs.usable() & ~reached, self.seed)
            found = np.where(reached, found, filled)
        return found

    def _reached(self, beliefs: Beliefs) -> np.ndarray:
        """Rows that are accepted as what they are predicted as, bool [N]."""
        least = np.array(self.least)[beliefs.labels]
        accepted = beliefs.usable() & (beliefs.confidence >= least)
        if self.separation is not None:
            accepted &= self.separation.accepts(beliefs.log_probs)
        if self.also is not None:
            accepted &= self.also.accepts(beliefs)
        if any(self.cuts):
            keys = row_keys(beliefs, coarse=self.coarse, seed=self.seed)
            accepted &= keys >= np.array(self.cuts, dtype=np.uint64)[beliefs.labels]
        return np.asarray(accepted)

    def thresholds(self) -> list[float]:
        """Least confidence that is accepted of each class [C]; 1 where no row of it is."""
        cuts = confidence_of(np.array(self.cuts, dtype=np.uint64), coarse=self.coarse)
        reached = np.where(np.isfinite(cuts), cuts, 1.0).clip(max=1.0)
        found = [max(float(cut), least) for cut, least in zip(reached, self.least, strict=True)]
        if self.filling is None:
            return found
        filled = confidence_of(np.array(self.filling.cuts, dtype=np.uint64), coarse=False)
        return [
            min(own, float(other)) if cut != NONE else own
            for own, other, cut in zip(found, filled, self.filling.cuts, strict=True)
        ]


def make_rule(
    pool: Statistics,
    seed: int,
    cuts: list[int] | None = None,
    least: list[float] | None = None,
    separation: Separation | None = None,
    also: RowRule | None = None,
) -> Rule:
    """A rule from cuts and least confidences by class; what is left out accepts everything."""
    num = pool.num_classes
    cuts, least = cuts or [0] * num, least or [0.0] * num
    return Rule(tuple(cuts), tuple(least), pool.coarse, seed, separation, also)
