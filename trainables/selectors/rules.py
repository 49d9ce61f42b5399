"""What a selector is fitted on beside a sketch, and the rule that it becomes.

Every selector is a small settings object with one `fit`: from a :class:`Sketch` (and, if it asks,
from the out-of-fold predictions of the labelled rows) to a :class:`Rule`, which is applied to any
block of rows on its own.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from trainables.beliefs import Beliefs
from trainables.schedules import Bounds, Scalar
from trainables.selectors.sketch import Sketch, confidence_of, row_keys

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

    def accepted_rows(self, sketch: Sketch) -> np.ndarray:
        """Rows that are accepted by predicted class, int64 [C]; reads no row."""
        rows = np.zeros(sketch.num_classes, np.int64)
        for label, keys in sketch.keys.items():
            at = int(np.searchsorted(keys, np.uint64(self.cuts[label]), side="left"))
            confidence = confidence_of(keys[at:], coarse=sketch.coarse)
            reach = int(np.searchsorted(confidence, np.float64(self.least[label]), "left"))
            rows[label] = int(sketch.counts[label][at + reach :].sum())
        return rows

    def describe(self) -> dict[str, float]:
        """Thresholds in words that a record can hold."""
        return {f"least_confidence/{k}": v for k, v in enumerate(self.least)}


def make_rule(
    sketch: Sketch, seed: int, cuts: list[int] | None = None, least: list[float] | None = None
) -> Rule:
    """A rule from cuts and least confidences by class; what is left out accepts everything."""
    num = sketch.num_classes
    return Rule(tuple(cuts or [0] * num), tuple(least or [0.0] * num), sketch.coarse, seed)
