"""The mean prediction over a pool, from sums that merge exactly.

Probabilities are summed as whole numbers of 2^-30, so the mean does not depend on how rows are
sharded or ordered; up to 8 billion rows fit.
"""

from dataclasses import dataclass

import numpy as np

from trainables.beliefs import Beliefs

UNIT = 2.0**30


@dataclass(frozen=True)
class PoolMean:
    """Rows, and the sum of their probabilities."""

    rows: int
    mass: np.ndarray
    """Sum of probabilities in units of 2^-30, int64 [C]."""

    def merge(self, other: "PoolMean") -> "PoolMean":
        """Of both row sets together; commutative and associative."""
        if not self.rows or not other.rows:
            return self if self.rows else other
        return PoolMean(self.rows + other.rows, self.mass + other.mass)

    def shares(self) -> np.ndarray:
        """Mean probabilities, float64 [C]; uniform over no rows."""
        if not self.rows:
            return np.full(len(self.mass), 1 / len(self.mass))
        return np.asarray(self.mass / UNIT / self.rows)


NOTHING = PoolMean(0, np.zeros(0, np.int64))
"""Of no rows."""


def pool_mean(beliefs: Beliefs) -> PoolMean:
    """The sums of a block of rows; rows that hold no numbers count nowhere."""
    usable = beliefs.usable()
    probs = np.exp(beliefs.log_probs[usable].astype(np.float64))
    mass = np.rint(probs * UNIT).astype(np.int64).sum(axis=0)
    return PoolMean(int(usable.sum()), mass)
