"""Where rows lie among the classes in feature space, and what that says of their labels.

Everything here is fitted on a bounded sample of the pool and then applied row by row.

Legend: N rows, n rows of a sample, C classes, D features.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from trainables.beliefs import Beliefs
from trainables.neighbours import (
    Bank,
    agreement,
    class_margins,
    neighbours,
    prototype_log_probs,
    prototypes,
)

LEAST_DEVIATION = 1e-6
"""Margins of a class whose deviation is below this are all at their mean."""


@dataclass(frozen=True)
class Nearness:
    """How near labelled rows are to the classes for networks that never saw them.

    Each row is held against the mean features of the labelled rows that *its* network was trained
    on, as pool rows are held against those of the network that labels them: feature spaces of two
    networks can't be compared, cosines to the classes can.
    """

    cosines: np.ndarray
    """Cosines of labelled rows to the classes, float32 [N, C]."""
    anchors: np.ndarray
    """Directions of the classes' labelled rows for the network that labels the pool, float32
    [C, D]; 0 for a class without rows."""


class RowWeights(Protocol):
    """Weights of rows by what lies around them."""

    def of(self, told: Beliefs, seen: Beliefs) -> np.ndarray:
        """Weights float64 [N] in [0, 1] of rows as the network told them and as they are seen."""


@dataclass(frozen=True)
class Closeness:
    """How much nearer a row must be to its class than to any other; see `class_margins`."""

    prototypes: np.ndarray
    """Directions of the classes, float32 [C, D]; 0 for a class without rows."""
    least: np.ndarray
    """Least accepted margin of each class, float64 [C]."""
    mean: np.ndarray
    """Mean margin of each class's rows, float64 [C]."""
    deviation: np.ndarray
    """Standard deviation of each class's margins, float64 [C]; 0 over fewer than two rows."""

    def margins(self, rows: Beliefs) -> np.ndarray:
        """Margins float64 [N] of rows."""
        return class_margins(rows.located(), self.prototypes, rows.labels)

    def accepts(self, beliefs: Beliefs) -> np.ndarray:
        """Which rows reach the least margin of their class and are nearest to it, bool [N]."""
        found = self.margins(beliefs)
        return np.asarray((found > 0) & (found >= self.least[beliefs.labels]))

    def scores(self, rows: Beliefs) -> np.ndarray:
        """How far margins are above their class's mean, in deviations, float64 [N]."""
        away = self.margins(rows) - self.mean[rows.labels]
        deviation = self.deviation[rows.labels]
        flat = deviation < LEAST_DEVIATION
        return np.where(flat, 0, away / np.where(flat, 1, deviation))


def fit_closeness(sample: Beliefs, drop: float = 0.0, trim: float = 0.2) -> Closeness:
    """The closeness of a sample of rows to the classes that they are predicted as.

    ``drop`` is the share of each class's rows whose margin is too small, ``trim`` the share of the
    farthest rows that prototypes are made without.
    """
    sample = _usable(sample)
    num = sample.num_classes
    found = prototypes(sample.located(), sample.labels, num, trim=trim)
    margins = class_margins(sample.located(), found, sample.labels)
    least, mean, deviation = np.full(num, -np.inf), np.zeros(num), np.zeros(num)
    for label in np.unique(sample.labels).tolist():
        mine = np.sort(margins[sample.labels == label])
        least[label], mean[label] = np.quantile(mine, drop), mine.mean()
        deviation[label] = mine.std(ddof=1) if len(mine) > 1 else 0.0
    return Closeness(found, least, mean, deviation)


@dataclass(frozen=True)
class NeighbourWeights:
    """sigmoid(score of the margin) times the share of neighbours of the row's own class."""

    closeness: Closeness
    bank: Bank
    """A sample of the pool with its labels."""
    k: int

    def of(self, told: Beliefs, seen: Beliefs) -> np.ndarray:
        """Weights float64 [N]; a row without neighbours counts by its margin alone."""
        del told
        found, cosines = neighbours(self.bank, seen.located(), self.k, seen.example_ids)
        near = cosines > -np.inf
        same = near & (self.bank.probs.argmax(axis=1)[found] == seen.labels[:, None])
        some = near.any(axis=1)
        share = np.where(some, same.sum(axis=1) / np.maximum(1, near.sum(axis=1)), 1.0)
        return np.asarray(expit(self.closeness.scores(seen)) * share)


def fit_neighbour_weights(sample: Beliefs, k: int, trim: float, bank: int) -> NeighbourWeights:
    """The weights that a sample of the pool gives; neighbours are sought among ``bank`` rows."""
    sample = _usable(sample)
    few = sample.first(bank)
    labels = Bank.of_labels(few.located(), few.labels, few.num_classes, few.example_ids)
    return NeighbourWeights(fit_closeness(sample, trim=trim), labels, k)


@dataclass(frozen=True)
class DualWeights:
    """How probable a label is to the network and to the prototypes, each by its best class."""

    prototypes: np.ndarray
    """Directions of the classes, float32 [C, D]."""
    temperature: float
    """Cosines are divided by this."""

    def of(self, told: Beliefs, seen: Beliefs) -> np.ndarray:
        """Weights float64 [N] in [0, 1]."""
        near = prototype_log_probs(seen.located(), self.prototypes, self.temperature)
        return agreement(np.exp(told.log_probs.astype(np.float64)), np.exp(near), seen.labels)


def fit_dual_weights(sample: Beliefs, temperature: float) -> DualWeights:
    """The weights that a sample of the pool gives."""
    sample = _usable(sample)
    return DualWeights(prototypes(sample.located(), sample.labels, sample.num_classes), temperature)


def _usable(sample: Beliefs) -> Beliefs:
    """The rows of a sample that are numbers behind all calibrators."""
    good = sample.usable()
    return sample if good.all() else sample.taken(np.flatnonzero(good))
