"""What the training steps of a round made of the pool rows that they labelled. For reports alone.

Sums over the rows of all workers, begun anew with each quarter of the round: at its end they tell
of the last quarter that labelled any. They are part of the checkpoint and reach no decision.

Legend: b rows of this worker, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from trainables.spec import Spec
from trainables.worker import Worker

PARTS = 4
"""Parts of a round; the sums are over one of them."""
BEGUN = -1
UNIT = 2.0**20


class InStep(Spec):
    """What training steps accepted in the last quarter of a round that labelled pool rows."""

    rows: int
    """Pool rows that were labelled, each as often as it was drawn; of points each one counts."""
    accepted_share: float
    """Share of them that was accepted, before any mixing."""
    class_rows: tuple[int, ...]
    """Accepted rows by the class that they were given."""
    mean_confidence: float | None
    """Mean probability of the most probable class, before calibrators; of no finite row None."""
    entropy_of_mean: float | None
    """Entropy of the mean prediction, in nats: log C where classes are told equally often; None of
    points, which are all told of each row."""
    not_finite: int
    """Rows of the whole round whose beliefs were not finite, which count as not accepted."""
    accepts_all: bool
    """Whether the settings mean to accept nearly every row."""
    thresholds: tuple[float, ...] = ()
    """Least confidence that the last of these steps accepted, by class and behind calibrators; none
    where nothing selects."""
    effect_mean: float | None = None
    """Mean over the round of h, what labels did to the labelled loss; None where none judges them,
    or not finite."""
    effect_std: float | None = None
    """Its standard deviation."""


@dataclass(frozen=True)
class Counts:
    """Sums over rows of all workers."""

    accepted: np.ndarray
    """Accepted rows by class, float64 [C]."""
    mass: np.ndarray
    """Probabilities by class, float64 [C]."""
    rows: float
    confidence: float
    """Sum of the highest probabilities."""
    not_finite: float

    def values(self) -> np.ndarray:
        """All of them as one vector, float64 [2 C + 3]."""
        few = [self.rows, self.confidence, self.not_finite]
        return np.concatenate([self.accepted, self.mass, few])


def counted(
    log_probs: np.ndarray, labels: np.ndarray, accepted: np.ndarray, worker: Worker
) -> Counts:
    """Counts over all workers' rows from this worker's own.

    ``log_probs`` [b, C] are what the labelling network said, ``labels`` int64 [b] the classes given
    to the rows that are ``accepted``, bool [b]. One reduction, and none where one worker trains.
    """
    num_classes = log_probs.shape[1]
    told = np.asarray((log_probs < np.inf).all(axis=1))
    probs = np.exp(log_probs if told.all() else log_probs[told])
    mine = Counts(
        np.bincount(labels[accepted], minlength=num_classes).astype(np.float64),
        probs.sum(axis=0, dtype=np.float64),
        float(len(log_probs)),
        float(probs.max(axis=1).sum(dtype=np.float64)) if len(probs) else 0.0,
        float(len(told) - len(probs)),
    )
    if worker.world == 1:
        return mine
    whole = worker.total(torch.from_numpy(mine.values()).to(worker.device)).cpu().numpy()
    return _counts(whole)


class StepTally:
    """The sums while a round trains."""

    def __init__(self, num_classes: int) -> None:
        self._sums = np.zeros(2 * num_classes + 3)
        self._whole = np.array([BEGUN, 0], np.int64)
        """The part that the sums are of, and the round's rows that were not finite."""
        self._effect = np.zeros(3)
        """How often h was told, its sum and that of its squares."""
        self._thresholds = np.zeros(0)
        self._later: Tensor | None = None

    def see(self, counts: Counts, share: float) -> None:
        """Take in a step at this share of the round."""
        self._begin(share, 2 * len(counts.accepted) + 3)
        self._add(counts.values())

    def see_later(self, sums: Tensor, share: float) -> None:
        """The same for sums [2 C + 3] that a GPU may still work on, in the order of `Counts`.

        They are waited for with the next part of the round, a checkpoint or a report; they must add
        up exactly, as whole numbers and such of 2^-20 do.
        """
        self._begin(share, len(sums))
        self._later = sums if self._later is None else self._later + sums

    def see_thresholds(self, thresholds: Sequence[float]) -> None:
        """Take in the least confidences that a step accepts [C]."""
        self._thresholds = np.array(thresholds, np.float64)

    def see_effect(self, effect: float) -> None:
        """Take in a step's h."""
        self._effect = self._effect + np.array([1.0, effect, effect * effect])

    def told(self, *, accepts_all: bool) -> InStep | None:
        """The report; None where no step labelled pool rows."""
        self._read()
        found = _counts(self._sums)
        if not found.rows:
            return None
        finite, mass = found.rows - found.not_finite, found.mass.sum()
        shares = found.mass / finite if finite else found.mass
        mean, std = self._spread()
        return InStep(
            rows=int(found.rows),
            accepted_share=float(found.accepted.sum() / found.rows),
            class_rows=tuple(int(n) for n in found.accepted),
            mean_confidence=found.confidence / finite if finite else None,
            entropy_of_mean=float(entr(shares).sum()) if mass else None,
            not_finite=int(self._whole[1]),
            accepts_all=accepts_all,
            thresholds=tuple(self._thresholds.tolist()),
            effect_mean=mean,
            effect_std=std,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a checkpoint must hold, by name."""
        self._read()
        return {
            "sums": self._sums,
            "whole": self._whole,
            "effect": self._effect,
            "thresholds": self._thresholds,
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        for name, value in arrays.items():
            setattr(self, f"_{name}", value.copy())

    def _begin(self, share: float, width: int) -> None:
        """Begin the sums anew if a new part of the round has begun."""
        part = min(PARTS - 1, int(share * PARTS))
        if part != self._whole[0]:
            self._read()
            self._sums = np.zeros(width)
            self._whole = np.array([part, self._whole[1]], np.int64)

    def _add(self, values: np.ndarray) -> None:
        self._sums = self._sums + values
        self._whole = self._whole + np.array([0, int(values[-1])], np.int64)

    def _read(self) -> None:
        if self._later is not None:
            self._add(self._later.cpu().numpy())
            self._later = None

    def _spread(self) -> tuple[float | None, float | None]:
        times, total, squares = self._effect.tolist()
        if not times:
            return None, None
        mean = total / times
        if not math.isfinite(squares):
            return None, None
        return mean, math.sqrt(max(0.0, squares / times - mean * mean))


def counted_points(peak: Tensor, accepted: Tensor, worker: Worker) -> Tensor:
    """Sums [2 K + 3] over all workers' points, for `StepTally.see_later`; a GPU is not waited for.

    ``peak`` [b, K] is how sure the teacher is of each point, ``accepted`` bool [b, K].
    """
    finite = peak.isfinite()
    sure = (peak.where(finite, 0).double().sum() * UNIT).round() / UNIT
    rows = torch.tensor(float(peak.numel()), device=peak.device)
    few = torch.stack([rows.double(), sure, (~finite).sum().double()])
    told = accepted.sum(dim=0).double()
    return worker.total(torch.cat([told, torch.zeros_like(told), few]))


def _counts(values: np.ndarray) -> Counts:
    num_classes = (len(values) - 3) // 2
    accepted, mass, few = np.split(values, [num_classes, 2 * num_classes])
    rows, confidence, not_finite = few.tolist()
    return Counts(accepted, mass, rows, confidence, not_finite)
