"""A rule that reads rows along the first principal component of two scores.

Each row becomes two numbers: its confidence, and the variance of its probabilities over the other
classes. Both are standardised by a sample, and the row is projected on the direction in which the
sample varies most. Of two standardised numbers that is always a diagonal: the one their correlation
has the sign of.

Legend: N rows, n rows of a sample, C classes.
"""

from dataclasses import dataclass

import numpy as np

from trainables.beliefs import Beliefs

SAME = 1e-9
"""Projections and correlations this close to 0 are 0: sums are rounded."""


@dataclass(frozen=True)
class Component:
    """The principal direction of a sample; see :func:`first_component`."""

    mean: tuple[float, float]
    """Of the confidence and of the variance over the other classes."""
    deviation: tuple[float, float]
    """Their standard deviations; infinite where all rows are alike."""
    direction: tuple[float, float]
    """Of length 1; the first entry is positive."""

    def accepts(self, beliefs: Beliefs) -> np.ndarray:
        """Rows whose projection is above that of the mean, bool [N]; never a row of NaN."""
        apart = (_scores(beliefs.log_probs) - self.mean) / self.deviation
        return np.asarray(apart @ np.array(self.direction) > SAME)


def first_component(log_probs: np.ndarray) -> Component:
    """Fit the direction on a sample of log-probabilities [n, C], in any order.

    Where the scores are uncorrelated, or one of them is the same for all rows, the direction is
    that of the confidence alone. Over no rows, and where all are alike, none is accepted.
    """
    scores = _scores(log_probs)
    scores = scores[np.isfinite(scores).all(axis=1)]
    if not len(scores):
        return Component((0.0, 0.0), (np.inf, np.inf), (1.0, 0.0))
    scores = scores[np.lexsort(scores.T)]
    mean, deviation = scores.mean(axis=0), scores.std(axis=0)
    deviation = np.where(deviation > SAME, deviation, np.inf)
    together = float(((scores - mean) / deviation).prod(axis=1).mean())
    other = 0.0 if abs(together) <= SAME else np.sign(together)
    direction = np.array([1.0, other]) / np.hypot(1.0, other)
    return Component(*(tuple(each.tolist()) for each in (mean, deviation, direction)))


def _scores(log_probs: np.ndarray) -> np.ndarray:
    """Confidence and variance of the other classes' probabilities, float64 [N, 2]."""
    probs = np.exp(log_probs.astype(np.float64))
    rows, labels = np.arange(len(probs)), log_probs.argmax(axis=1)
    sure, others = probs[rows, labels], max(1, probs.shape[1] - 1)
    apart = (probs - (probs.sum(axis=1) - sure)[:, None] / others) ** 2
    apart[rows, labels] = 0
    return np.stack([sure, apart.sum(axis=1) / others], axis=1)
