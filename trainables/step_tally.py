"""What the training steps of a round made of the pool rows that they labelled. For reports alone.

Sums over the rows of all workers, begun anew with each quarter of the round: at its end they tell
of the last quarter that labelled any. They are part of the checkpoint and reach no decision.

Legend: b rows of this worker, C classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from trainables.spec import Spec
from trainables.worker import Worker

PARTS = 4
"""Parts of a round; the sums are over one of them."""
BEGUN = -1


class InStep(Spec):
    """What training steps accepted in the last quarter of a round that labelled pool rows."""

    rows: int
    """Pool rows that were labelled, each as often as it was drawn."""
    accepted_share: float
    """Share of them that was accepted, before any mixing."""
    class_rows: tuple[int, ...]
    """Accepted rows by the class that they were given."""
    mean_confidence: float | None
    """Mean probability of the most probable class, before calibrators; of no finite row None."""
    entropy_of_mean: float | None
    """Entropy of the mean prediction, in nats: log C where classes are told equally often."""
    not_finite: int
    """Rows of the whole round whose beliefs were not finite, which count as not accepted."""
    accepts_all: bool
    """Whether the settings mean to accept nearly every row."""
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
    return _counts(whole, num_classes)


class StepTally:
    """The sums while a round trains."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._sums = np.zeros(2 * num_classes + 3)
        self._whole = np.array([BEGUN, 0], np.int64)
        """The part that the sums are of, and the round's rows that were not finite."""
        self._effect = np.zeros(3)
        """How often h was told, its sum and that of its squares."""

    def see(self, counts: Counts, share: float) -> None:
        """Take in a step at this share of the round."""
        part = min(PARTS - 1, int(share * PARTS))
        kept = self._sums if part == self._whole[0] else 0.0
        self._sums = kept + counts.values()
        self._whole = np.array([part, self._whole[1] + int(counts.not_finite)], np.int64)

    def see_effect(self, effect: float) -> None:
        """Take in a step's h."""
        self._effect = self._effect + np.array([1.0, effect, effect * effect])

    def told(self, *, accepts_all: bool) -> InStep | None:
        """The report; None where no step labelled pool rows."""
        found = _counts(self._sums, self._num_classes)
        if not found.rows:
            return None
        finite = found.rows - found.not_finite
        shares = found.mass / finite if finite else found.mass
        seen = shares[shares > 0]
        mean, std = self._spread()
        return InStep(
            rows=int(found.rows),
            accepted_share=float(found.accepted.sum() / found.rows),
            class_rows=tuple(int(n) for n in found.accepted),
            mean_confidence=found.confidence / finite if finite else None,
            entropy_of_mean=float(-(seen * np.log(seen)).sum()) if finite else None,
            not_finite=int(self._whole[1]),
            accepts_all=accepts_all,
            effect_mean=mean,
            effect_std=std,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a checkpoint must hold, by name."""
        return {"sums": self._sums, "whole": self._whole, "effect": self._effect}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        for name, value in arrays.items():
            setattr(self, f"_{name}", value.copy())

    def _spread(self) -> tuple[float | None, float | None]:
        times, total, squares = self._effect.tolist()
        if not times:
            return None, None
        mean = total / times
        if not math.isfinite(squares):
            return None, None
        return mean, math.sqrt(max(0.0, squares / times - mean * mean))


def _counts(values: np.ndarray, num_classes: int) -> Counts:
    accepted, mass, few = np.split(values, [num_classes, 2 * num_classes])
    rows, confidence, not_finite = few.tolist()
    return Counts(accepted, mass, rows, confidence, not_finite)
