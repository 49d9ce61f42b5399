"""Running statistics: what a training step knows of the pool.

A step sees a batch, the table sees the whole pool. Between the two stands a memory: old means count
with ``decay``, the newest batch with ``1 - decay``. With a decay of zero and the whole pool as one
batch these statistics are those of the table. Batches are *global* (gathered from all workers), so
nothing here depends on how many workers share one.

Legend: B rows of the global batch, C classes, P pool rows that the round may draw.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from trainables.beliefs import Beliefs
from trainables.pool_mean import NOTHING, PoolMean
from trainables.selectors.sketch import Sketch, confidence_keys
from trainables.spec import Spec
from trainables.step_tally import StepTally

MOST_RECENT_ROWS = 1 << 16
UNSEEN = -1
TALLY = "tally_"


class Memory(Spec):
    """How long a training step remembers the batches before."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Weight of the old means at each step; ranks are taken among the last 1 / (1 - decay)
    batches, of at most 65,536 rows."""
    begin: Literal["first_batch", "uniform"] = "first_batch"
    """Means begin with the first batch, or at equal class shares, a mean confidence of 1 / C and a
    variance of 1, as in most published code."""


@dataclass(frozen=True)
class Batch:
    """A global batch of pool rows, as a selector sees them."""

    places: np.ndarray
    """Positions in the pool source, int64 [B]."""
    labels: np.ndarray
    """Predicted classes, int64 [B]; -1 for rows whose predictions are not numbers."""
    confidence: np.ndarray
    """Their confidences, float32 [B]."""
    mean: PoolMean
    """Sum of the rows' probabilities."""


class Running:
    """Means with a memory, the last rows, and the last sure label of every pool row."""

    def __init__(self, num_classes: int, memory: Memory, num_rows: int, stages: int = 0) -> None:
        """Statistics over ``num_rows`` pool rows, behind a chain of ``stages`` calibrators."""
        self.num_classes, self.coarse, self._decay = num_classes, False, memory.decay
        uniform = memory.begin == "uniform"
        flat = np.full(num_classes, 1 / num_classes)
        self._weight = np.full(stages + 1, float(uniform))
        self._means = np.tile(flat * uniform, (stages + 1, 1))
        """Mean probabilities before each calibrator and behind the last one [stages + 1, C]."""
        self._label_shares = flat * uniform
        self._moments = np.array([uniform / num_classes, float(uniform)])
        """Mean confidence and its variance."""
        self._labels = np.zeros(0, np.int64)
        self._confidence = np.zeros(0, np.float32)
        self._last_sure = np.full(num_rows, UNSEEN, np.int16)
        self._recent: Sketch | None = None
        self.tally = StepTally(num_classes)
        """What steps accepted; no selector reads it."""

    def see_mean(self, stage: int, mean: PoolMean) -> np.ndarray:
        """Take in a batch's predictions as calibrator ``stage`` sees them; their mean [C]."""
        if mean.rows:
            self._weight[stage] = self._blend(self._weight[stage], 1.0)
            self._means[stage] = self._blend(self._means[stage], mean.shares())
        return self._mean(stage)

    def see(self, batch: Batch, sure_from: float | None) -> None:
        """Take in a batch behind all calibrators.

        ``sure_from`` is the confidence from which a row's label is noted as sure; None notes none.
        """
        self.see_mean(-1, batch.mean)
        known = batch.labels >= 0
        labels, confidence = batch.labels[known], batch.confidence[known]
        if not len(labels):
            return
        counts = np.bincount(labels, minlength=self.num_classes)
        wide = confidence.astype(np.float64)
        moments = np.array([wide.mean(), wide.var(ddof=1) if len(wide) > 1 else 0.0])
        self._label_shares = self._blend(self._label_shares, counts / len(labels))
        self._moments = self._blend(self._moments, moments)
        if sure_from is not None:
            sure = confidence >= np.float32(sure_from)
            self._last_sure[batch.places[known][sure]] = labels[sure]
        batches = 1 / (1 - self._decay)
        most = min(MOST_RECENT_ROWS, math.ceil(len(labels) * batches - 1e-6))
        self._labels = np.concatenate([self._labels, labels])[-most:]
        self._confidence = np.concatenate([self._confidence, confidence])[-most:]
        self._recent = None

    def label_shares(self) -> np.ndarray:
        """Running shares of the predicted classes, float64 [C]."""
        return np.asarray(self._label_shares / max(self._weight[-1], 1e-12))

    def shares(self) -> np.ndarray:
        return self._mean(-1)

    def mean_confidence(self) -> float:
        return float(self._moments[0] / max(self._weight[-1], 1e-12))

    def confidence_variance(self) -> float:
        return float(self._moments[1] / max(self._weight[-1], 1e-12))

    def sure_rows(self, least: float) -> tuple[np.ndarray, int]:
        """Pool rows by their last sure label, int64 [C], and those that were never sure.

        Each row counts by the bound that held when it was last seen; ``least`` is not read again.
        """
        del least
        noted = self._last_sure[self._last_sure != UNSEEN]
        sure = np.bincount(noted, minlength=self.num_classes)
        return sure, len(self._last_sure) - len(noted)

    def last_confidences(self) -> np.ndarray:
        """Confidences of the last rows, float32, newest last."""
        return self._confidence

    def class_rows(self) -> np.ndarray:
        return self._last_rows().class_rows()

    def confidences(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        return self._last_rows().confidences(label)

    def class_cut(self, label: int, num_rows: int) -> int:
        return self._last_rows().class_cut(label, num_rows)

    def quantile(self, share: float) -> float:
        return self._last_rows().quantile(share)

    def sampled_rows(self) -> np.ndarray:
        """A training step keeps no whole rows.

        Raises:
            ValueError: Always.
        """
        raise ValueError("this selector or weighting acts on the stored table only")

    def sampled(self) -> Beliefs:
        """A training step keeps no whole rows.

        Raises:
            ValueError: Always.
        """
        raise ValueError("this selector or weighting acts on the stored table only")

    def reaching(self, cuts: tuple[int, ...], least: tuple[float, ...]) -> np.ndarray:
        return self._last_rows().reaching(cuts, least)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a checkpoint must hold, by name."""
        return {
            "weight": self._weight,
            "means": self._means,
            "label_shares": self._label_shares,
            "moments": self._moments,
            "labels": self._labels,
            "confidence": self._confidence,
            "last_sure": self._last_sure,
            **{f"{TALLY}{name}": value for name, value in self.tally.arrays().items()},
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        own = {name: value for name, value in arrays.items() if not name.startswith(TALLY)}
        for name, value in own.items():
            setattr(self, f"_{name}", value.copy())
        self.tally.restore({n.removeprefix(TALLY): arrays[n] for n in arrays.keys() - own.keys()})
        self._recent = None

    def _mean(self, stage: int) -> np.ndarray:
        if not self._weight[stage]:
            return np.full(self.num_classes, 1 / self.num_classes)
        return np.asarray(self._means[stage] / self._weight[stage])

    def _blend(self, old: Any, new: Any) -> Any:
        return self._decay * old + (1 - self._decay) * new

    def _last_rows(self) -> Sketch:
        """The sketch of the last rows; ties of confidence stay together."""
        if self._recent is None:
            keys, counts = {}, {}
            for label in np.unique(self._labels).tolist():
                mine = confidence_keys(self._confidence[self._labels == label])
                keys[label], counts[label] = np.unique(mine, return_counts=True)
            self._recent = Sketch(
                self.num_classes, coarse=False, keys=keys, counts=counts, mean=NOTHING
            )
        return self._recent
