"""Calibrators: how a teacher's probabilities are corrected before anything is chosen from them.

Each calibrator is fitted on class-sized statistics and becomes a :class:`Tilt`, a map of one row to
one row: log p' = power * log p + shift, normalised. Tilts compose to tilts, so a chain of
calibrators is one tilt. The same objects serve the stored table (fitted on the mean over the whole
pool) and the training step (fitted on a running mean).

Legend: N rows, C classes.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.optimize import minimize_scalar

from trainables.beliefs import Beliefs
from trainables.pool_mean import PoolMean
from trainables.schedules import Bounds, Scalar, number
from trainables.selectors.rules import Labelled
from trainables.spec import Spec

GUARD = 1e-6
"""Added to shares before they are divided."""
Temper = Annotated[Scalar, Bounds(low=0.01, high=10)]
Strength = Annotated[Scalar, Bounds(low=0, high=10)]


@dataclass(frozen=True)
class Tilt:
    """log p' = power * log p + shift, normalised."""

    power: float = 1.0
    shift: tuple[float, ...] = ()
    """One for each class [C]; empty means zero."""

    def then(self, after: "Tilt") -> "Tilt":
        """This tilt followed by another one, as one."""
        if not self.shift:
            return Tilt(self.power * after.power, after.shift)
        mine = [after.power * value for value in self.shift]
        theirs = after.shift or (0.0,) * len(mine)
        return Tilt(
            self.power * after.power, tuple(a + b for a, b in zip(mine, theirs, strict=True))
        )

    def applied(self, log_probs: np.ndarray) -> np.ndarray:
        """Tilted log-probabilities float32 [N, C]; the same bits if the tilt does nothing."""
        if self == Tilt():
            return log_probs
        tilted = self.power * log_probs.astype(np.float64)
        if self.shift:
            tilted = tilted + np.array(self.shift)
        with np.errstate(invalid="ignore"):  # rows of NaN stay so and are counted out later
            tilted -= np.logaddexp.reduce(tilted, axis=1, keepdims=True)
        return tilted.astype(np.float32)

    def of(self, beliefs: Beliefs) -> Beliefs:
        """Tilted beliefs."""
        if self == Tilt():
            return beliefs
        return Beliefs.of_log_probs(beliefs.example_ids, self.applied(beliefs.log_probs))


class Temperature(Spec):
    """Divide logits by the temperature that fits the out-of-fold labelled rows best.

    Source: Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599,
    section 4.2. With fewer than five labelled rows a class the temperature stays 1 (house rule).
    """

    kind: Literal["temperature"] = "temperature"
    needs_out_of_fold: ClassVar[bool] = True
    needs_pool: ClassVar[bool] = False

    def fit(self, pool: PoolMean, before: Tilt, labelled: Labelled) -> Tilt:
        del pool
        beliefs, labels = labelled.out_of_fold, labelled.labels
        if beliefs is None or labels is None:
            raise ValueError("calibrator temperature needs out-of-fold predictions")
        if len(labels) < 5 * beliefs.num_classes:
            return Tilt()
        logs = before.applied(beliefs.log_probs).astype(np.float64)

        def loss(log_t: float) -> float:
            scaled = logs / math.exp(log_t)
            scaled -= np.logaddexp.reduce(scaled, axis=1, keepdims=True)
            return -float(scaled[np.arange(len(labels)), labels].mean())

        found = minimize_scalar(loss, bounds=(math.log(0.25), math.log(4)), method="bounded")
        return Tilt(power=math.exp(-float(found.x)))


class Sharpen(Spec):
    """Raise probabilities to 1/temperature and normalise; below 1 sharpens.

    Source: Berthelot et al., MixMatch, NeurIPS 2019, arXiv:1905.02249, equation 7.
    """

    kind: Literal["sharpen"] = "sharpen"
    temperature: Temper = 0.5
    """Temperature; 1 changes nothing."""
    needs_out_of_fold: ClassVar[bool] = False
    needs_pool: ClassVar[bool] = False

    def fit(self, pool: PoolMean, before: Tilt, labelled: Labelled) -> Tilt:
        del pool, before, labelled
        return Tilt(power=1 / number(self.temperature))


class Align(Spec):
    """Distribution alignment: multiply by (target + 1e-6) / (mean prediction + 1e-6).

    Source: Berthelot et al., ReMixMatch, ICLR 2020, arXiv:1911.09785, section 3.1; the power of
    the labelled frequencies as in Wei et al., CReST, CVPR 2021, arXiv:2102.09559, section 3.3; the
    balance of a shifted pool as in Lipton et al., BBSE, ICML 2018, arXiv:1802.03916.
    """

    kind: Literal["align"] = "align"
    target: Literal["uniform", "labelled", "estimated"] = "uniform"
    """Class balance to align to: equal, that of the labelled rows, or the pool's own as estimated
    from out-of-fold predictions."""
    power: Annotated[Scalar, Bounds(low=0, high=1)] = 1.0
    """The target is raised to this power and normalised; 0 aligns to equal shares."""
    needs_pool: ClassVar[bool] = True

    @property
    def needs_out_of_fold(self) -> bool:
        return self.target == "estimated"

    def fit(self, pool: PoolMean, before: Tilt, labelled: Labelled) -> Tilt:
        mean = pool.shares()
        target = np.full(len(mean), 1 / len(mean))
        if self.target == "labelled":
            target = labelled.class_rows / max(1, labelled.class_rows.sum())
        elif self.target == "estimated":
            target = estimated_prior(before, labelled, mean)
        power = number(self.power)
        target = target**power / (target**power).sum()
        return Tilt(shift=tuple(np.log((target + GUARD) / (mean + GUARD)).tolist()))


class AdjustLogits(Spec):
    """Subtract strength * log(mean prediction) from the logits.

    Source: Menon et al., Long-tail learning via logit adjustment, ICLR 2021, arXiv:2007.07314,
    equation 9; with the mean of predictions as in DebiasPL, CVPR 2022, arXiv:2201.01490.
    """

    kind: Literal["adjust_logits"] = "adjust_logits"
    strength: Strength = 0.4
    """How strongly; 0 changes nothing."""
    needs_out_of_fold: ClassVar[bool] = False
    needs_pool: ClassVar[bool] = True

    def fit(self, pool: PoolMean, before: Tilt, labelled: Labelled) -> Tilt:
        del before, labelled
        logs = np.log(np.maximum(pool.shares(), GUARD))
        return Tilt(shift=tuple((-number(self.strength) * logs).tolist()))


Calibrator = Annotated[
    Temperature | Sharpen | Align | AdjustLogits,
    Field(discriminator="kind"),
]


def estimated_prior(before: Tilt, labelled: Labelled, mean: np.ndarray) -> np.ndarray:
    """The pool's class balance, float64 [C], from its mean prediction and out-of-fold rows.

    Solves C q = mean with C[:, k] the mean prediction of labelled rows of class k; negative shares
    become 0. Source: Lipton et al., BBSE, ICML 2018, arXiv:1802.03916, in its soft form.
    """
    beliefs, labels = labelled.out_of_fold, labelled.labels
    if beliefs is None or labels is None:
        raise ValueError("align to the estimated balance needs out-of-fold predictions")
    probs = np.exp(before.applied(beliefs.log_probs).astype(np.float64))
    num = beliefs.num_classes
    columns = [
        probs[labels == k].mean(axis=0) if (labels == k).any() else np.eye(num)[k]
        for k in range(num)
    ]
    return solve_prior(np.stack(columns, axis=1), mean)


def solve_prior(confusion: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The q of confusion [C, C] @ q = mean [C], clipped at 0, normalised; a ridge if ill-posed."""
    if np.linalg.cond(confusion) > 1e3:
        confusion = confusion + 1e-2 * np.eye(len(mean))
    found = np.linalg.solve(confusion, mean).clip(min=0)
    return found / found.sum() if found.sum() else np.full(len(mean), 1 / len(mean))
