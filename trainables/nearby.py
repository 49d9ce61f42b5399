"""Calibrators that correct a row's beliefs by where it lies in feature space.

On the table each is fitted on a sample of the pool (`trainables.sample`) as the calibrators before
it leave the rows; inside the training step on rows that the step keeps (`trainables.kept_rows`).
Then it maps any row on its own.

Legend: N rows, C classes, D features.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from trainables.beliefs import Beliefs
from trainables.calibrators import Calibrator
from trainables.kept_rows import Kept, LabelledRows
from trainables.neighbours import (
    Bank,
    BankRows,
    blend,
    class_shares,
    memory_smooth,
    neighbours,
    prototype_log_probs,
    prototypes,
    smooth,
)
from trainables.row_maps import InTurn, RowMap, maps_of, missing_mass
from trainables.schedules import Bounds, Scalar, number
from trainables.spec import Spec

Part = Annotated[Scalar, Bounds(low=0, high=1, over=("rounds", "steps"))]


class NeighbourMean(Spec):
    """Draw a row's probabilities to the mean of its neighbours' in feature space.

    Source: the plain mean of ten neighbours (share 1, no temperature) is that of Chen et al.,
    AdaContrast, CVPR 2022, arXiv:2204.10377; the whole bank (no k) that of Li et al., CoMatch, ICCV
    2021, arXiv:2011.11183, and over labelled rows "aggregate" of Zheng et al., SimMatch, CVPR 2022,
    arXiv:2203.06915. Departs from the papers, on the table: neighbours are sought once a round
    among ``bank`` rows of the pool, and no row is its own neighbour.
    """

    kind: Literal["neighbours"] = "neighbours"
    k: Annotated[int, Field(ge=1, le=1000)] | None = 10
    """Neighbours; None takes all rows of the bank, which needs a temperature."""
    share: Part = 0.5
    """Share of the neighbours in the result; 1 leaves nothing of the row's own beliefs."""
    temperature: Annotated[float, Field(gt=0, le=10)] | None = 0.07
    """Neighbours count by softmax(cosine / temperature); None: all alike."""
    bank: BankRows = 4096
    """Of the table: most rows among which neighbours are sought; time grows with it."""
    keeps: ClassVar[Kept] = None
    needs_labelled: ClassVar[bool] = False
    needs_pool: ClassVar[bool] = False
    needs_features: ClassVar[bool] = True

    @model_validator(mode="after")
    def _weighed(self) -> Self:
        if self.k is None and self.temperature is None:
            raise ValueError("calibrator neighbours without k needs a temperature")
        return self

    def fit_sample(self, sample: Beliefs) -> RowMap:
        """The map that a sample of the pool gives."""
        sample = sample.first(self.bank)
        bank = Bank.of_probs(sample.located(), _probs(sample.log_probs), sample.example_ids)
        return self.fit_kept(bank, np.zeros(0))

    def fit_kept(self, bank: Bank, label_shares: np.ndarray) -> RowMap:
        """The map that kept rows give; how often classes were predicted plays no part."""
        del label_shares
        return Smoothed(bank, self.k, number(self.share), self.temperature)


class PrototypeBlend(Spec):
    """Blend a row's probabilities with softmax(cosine to class prototypes / temperature).

    A class's prototype is the mean feature of the sampled rows that are predicted as it. Source:
    one share for all as in Ali et al., DPA, WACV 2025, arXiv:2408.08855; by class as in Oh et al.,
    DASO, CVPR 2022, arXiv:2106.05682. Departs from the papers, on the table: prototypes are made
    once a round of at most 16,384 rows of the pool.
    """

    kind: Literal["prototypes"] = "prototypes"
    share: Part = 0.3
    """Share of the prototypes in the result."""
    class_temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    """Times (rows of the predicted class / of the largest)^(1 / this); None: the same for all."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.05
    """Cosines are divided by this."""
    trim: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a class's rows, the farthest, that its prototype is made without."""
    keeps: ClassVar[Kept] = LabelledRows
    needs_labelled: ClassVar[bool] = False
    needs_pool: ClassVar[bool] = False
    needs_features: ClassVar[bool] = True

    def fit_sample(self, sample: Beliefs) -> RowMap:
        """The map that a sample of the pool gives."""
        num, labels = sample.num_classes, np.where(sample.usable(), sample.labels, -1)
        found = prototypes(sample.located(), labels, num, trim=self.trim)
        return self._blended(found, np.bincount(labels[labels >= 0], minlength=num))

    def fit_kept(self, bank: Bank, label_shares: np.ndarray) -> RowMap:
        """The map that kept rows give; ``label_shares`` [C] is how often classes were predicted."""
        return self._blended(class_means(bank, self.trim), label_shares)

    def _blended(self, means: np.ndarray, times: np.ndarray) -> RowMap:
        shares = np.full(len(means), number(self.share))
        if self.class_temperature is not None:
            shares = shares * class_shares(times, self.class_temperature)
        return Blended(means, shares, self.temperature)


Nearby = NeighbourMean | PrototypeBlend
TableCalibrator = Annotated[Calibrator | Nearby, Field(discriminator="kind")]
"""Calibrators of the stored table, where rows have features."""
Refinement = Annotated[Nearby, Field(discriminator="kind")]
"""What stands behind the calibrators of a training step, where rows are kept."""


def class_means(bank: Bank, trim: float = 0.0) -> np.ndarray:
    """Directions of the means of a bank's rows by their most probable class, float32 [C, D]."""
    labels = bank.probs.argmax(axis=1)
    return prototypes(bank.features, labels, bank.probs.shape[1], trim=trim)


def refined(
    by: Nearby, beliefs: Beliefs, features: np.ndarray, bank: Bank, label_shares: np.ndarray
) -> Beliefs:
    """A step's beliefs [N, C] about rows with features [N, D], corrected by the rows it keeps."""
    located = replace(beliefs, features=features)
    mapped = by.fit_kept(bank, label_shares).applied(beliefs.log_probs, located)
    return Beliefs.of_log_probs(beliefs.example_ids, mapped)


@dataclass(frozen=True)
class Smoothed:
    """Rows drawn to their neighbours in a bank."""

    bank: Bank
    k: int | None
    share: float
    temperature: float | None

    def then(self, after: RowMap) -> RowMap:
        """This map followed by another one."""
        return InTurn((self, *maps_of(after)))

    def applied(self, log_probs: np.ndarray, rows: Beliefs | None = None) -> np.ndarray:
        """Mapped log-probabilities float32 [N, C]; rows of NaN stay so."""
        at = _rows(rows)
        own, features, ids = _probs(log_probs), at.located(), at.example_ids
        if self.k is None:
            assert self.temperature is not None  # noqa: S101 - the settings say so
            drawn = memory_smooth(self.bank, features, own, 1 - self.share, self.temperature, ids)
        else:
            found, cosines = neighbours(self.bank, features, self.k, ids)
            near = smooth(self.bank, own, found, cosines, self.temperature)
            drawn = blend(own, near, self.share)
        return _logs(drawn, log_probs)


@dataclass(frozen=True)
class Blended:
    """Rows blended with what prototypes say of them."""

    prototypes: np.ndarray
    """Directions of the classes, float32 [C, D]; 0 for a class without rows."""
    shares: np.ndarray
    """Share of the prototypes by predicted class, float64 [C]."""
    temperature: float

    def then(self, after: RowMap) -> RowMap:
        """This map followed by another one."""
        return InTurn((self, *maps_of(after)))

    def applied(self, log_probs: np.ndarray, rows: Beliefs | None = None) -> np.ndarray:
        """Mapped log-probabilities float32 [N, C]; rows of NaN stay so."""
        near = prototype_log_probs(_rows(rows).located(), self.prototypes, self.temperature)
        return _logs(blend(_probs(log_probs), np.exp(near), self.shares), log_probs)


def _rows(rows: Beliefs | None) -> Beliefs:
    if rows is None:
        raise ValueError("this calibrator reads features, of which there are none here")
    return rows


def _probs(log_probs: np.ndarray) -> np.ndarray:
    """Probabilities float64 [N, C] that sum to 1; rows of NaN stay so."""
    return np.asarray(np.exp(log_probs.astype(np.float64) - missing_mass(log_probs)))


def _logs(probs: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Log-probabilities float32 [N, C] that miss the mass that the rows missed before."""
    with np.errstate(divide="ignore"):
        return np.asarray((np.log(probs) + missing_mass(before)).astype(np.float32))
