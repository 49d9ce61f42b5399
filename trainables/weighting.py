"""Weightings: how much an accepted row counts, fitted on the same statistics as the selector.

Legend: N rows, C classes.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from trainables.selectors.sketch import Sketch
from trainables.spec import Spec

LEAST = float(np.finfo(np.float32).tiny)
"""No accepted row counts for nothing: a weight is in (0, 1]."""


@dataclass(frozen=True)
class Weights:
    """A weight for each row: by class, times confidence^power, times a Gaussian below a centre."""

    by_class: tuple[float, ...]
    """Factor of each class [C]."""
    power: float = 0.0
    centre: float = 0.0
    spread: float = 0.0
    """Standard deviation of the Gaussian; 0 leaves it out."""

    def of(self, labels: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """Weights float32 [N] of rows with these classes and confidences."""
        sure = confidence.astype(np.float64)
        weight = np.array(self.by_class)[labels] * sure**self.power
        if self.spread:
            short = np.minimum(sure - self.centre, 0)
            weight = weight * np.exp(-(short**2) / (2 * self.spread**2))
        return np.asarray(weight.clip(LEAST, 1).astype(np.float32))


class One(Spec):
    """Every row counts alike."""

    kind: Literal["one"] = "one"

    def fit(self, sketch: Sketch, accepted: np.ndarray) -> Weights:
        del accepted
        return Weights((1.0,) * sketch.num_classes)


class Confidence(Spec):
    """A row counts by its confidence."""

    kind: Literal["confidence"] = "confidence"
    power: Annotated[float, Field(gt=0, le=10)] = 1.0
    """The confidence is raised to this."""

    def fit(self, sketch: Sketch, accepted: np.ndarray) -> Weights:
        del accepted
        return Weights((1.0,) * sketch.num_classes, power=self.power)


class Gaussian(Spec):
    """1 from the pool's mean confidence on, a Gaussian's flank below it.

    exp(-min(c - mean, 0)^2 / (2 variance / num_sigma^2)) with the unbiased variance of the pool's
    confidences. Source: Chen et al., SoftMatch, ICLR 2023, arXiv:2301.10921, equations 6 to 8, with
    a memory of zero over the whole pool.
    """

    kind: Literal["gaussian"] = "gaussian"
    num_sigma: Annotated[float, Field(gt=0, le=10)] = 2.0
    """The larger, the steeper the flank."""

    def fit(self, sketch: Sketch, accepted: np.ndarray) -> Weights:
        del accepted
        values, counts = _confidences(sketch)
        rows = max(1, int(counts.sum()))
        mean = float(values @ counts) / rows
        variance = float((values - mean) ** 2 @ counts) / max(1, rows - 1)
        spread = variance**0.5 / self.num_sigma
        return Weights((1.0,) * sketch.num_classes, centre=mean, spread=max(spread, 1e-12))


class InverseClass(Spec):
    """A class counts the less the more rows of it are accepted; the rarest one's rows count 1.

    Source: the released code of Curriculum Labeling, arXiv:2001.06001: (N - n_k) / n_k.
    Departs from the paper: 1 / n_k, scaled so that the largest weight is 1.
    """

    kind: Literal["inverse_class"] = "inverse_class"

    def fit(self, sketch: Sketch, accepted: np.ndarray) -> Weights:
        del sketch
        least = min((int(n) for n in accepted if n), default=1)
        return Weights(tuple(least / max(1, int(n)) for n in accepted))


Weighting = Annotated[
    One | Confidence | Gaussian | InverseClass,
    Field(discriminator="kind"),
]


def _confidences(sketch: Sketch) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of all rows and how many rows have each."""
    pairs = [sketch.confidences(label) for label in range(sketch.num_classes)]
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
