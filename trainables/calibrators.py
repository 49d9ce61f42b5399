"""Calibrators: how a teacher's probabilities are corrected before anything is chosen from them.

Each calibrator is fitted on the mean prediction and becomes a :class:`Tilt`, a map of one row to
one row: log p' = power * log p + shift, normalised. Tilts compose to tilts, so a chain of
calibrators is one tilt. The same objects serve the stored table, where the mean is over the whole
pool, and the training step, where it is a running mean.

Legend: N rows, C classes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from pydantic import Field, model_validator

from trainables import transport
from trainables.beliefs import Beliefs
from trainables.row_maps import Refined, RowMap, Tilt
from trainables.schedules import Bounds, Scalar, number
from trainables.selectors.rules import Labelled
from trainables.spec import Spec

GUARD = 1e-6
"""Added to shares before they are divided."""
Temper = Annotated[Scalar, Bounds(low=0.01, high=10, over=("rounds", "steps"))]
Strength = Annotated[Scalar, Bounds(low=0, high=10, over=("rounds", "steps"))]


class Temperature(Spec):
    """Divide logits by the temperature that fits the out-of-fold labelled rows best.

    Source: Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599,
    section 4.2. With fewer than five labelled rows a class the temperature stays 1 (house rule).
    """

    kind: Literal["temperature"] = "temperature"
    needs_labelled: ClassVar[bool] = True
    needs_pool: ClassVar[bool] = False

    def fit(self, mean: np.ndarray, before: RowMap, labelled: Labelled) -> Tilt:
        from scipy.optimize import minimize_scalar  # here: half a second that few runs need

        del mean
        beliefs, labels = labelled.beliefs, labelled.labels
        if beliefs is None or labels is None:
            raise ValueError("calibrator temperature needs out-of-fold predictions")
        if len(labels) < 5 * beliefs.num_classes:
            return Tilt(temperature=1.0)
        logs = before.applied(beliefs.log_probs).astype(np.float64)

        def loss(log_t: float) -> float:
            scaled = logs / math.exp(log_t)
            scaled -= np.logaddexp.reduce(scaled, axis=1, keepdims=True)
            return -float(scaled[np.arange(len(labels)), labels].mean())

        found = minimize_scalar(loss, bounds=(math.log(0.25), math.log(4)), method="bounded")
        return Tilt(power=math.exp(-float(found.x)), temperature=math.exp(float(found.x)))


class Sharpen(Spec):
    """Raise probabilities to 1/temperature and normalise; below 1 sharpens.

    Source: Berthelot et al., MixMatch, NeurIPS 2019, arXiv:1905.02249, equation 7.
    """

    kind: Literal["sharpen"] = "sharpen"
    temperature: Temper = 0.5
    """Temperature; 1 changes nothing."""
    needs_labelled: ClassVar[bool] = False
    needs_pool: ClassVar[bool] = False

    def fit(self, mean: np.ndarray, before: RowMap, labelled: Labelled) -> Tilt:
        del mean, before, labelled
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
    power: Annotated[Scalar, Bounds(low=0, high=1, over=("rounds", "steps"))] = 1.0
    """The target is raised to this power and normalised; 0 aligns to equal shares."""
    needs_pool: ClassVar[bool] = True

    @property
    def needs_labelled(self) -> bool:
        return self.target == "estimated"

    def fit(self, mean: np.ndarray, before: RowMap, labelled: Labelled) -> Tilt:
        target, prior = np.full(len(mean), 1 / len(mean)), ()
        if self.target == "labelled":
            target = labelled.class_rows / max(1, labelled.class_rows.sum())
        elif self.target == "estimated":
            target = estimated_prior(before, labelled, mean)
            prior = tuple(target.tolist())
        power = number(self.power)
        target = target**power / (target**power).sum()
        shift = np.log((target + GUARD) / (mean + GUARD))
        return Tilt(shift=tuple(shift.tolist()), prior=prior)


class AdjustLogits(Spec):
    """Subtract strength * log(mean prediction) from the logits.

    Source: Menon et al., Long-tail learning via logit adjustment, ICLR 2021, arXiv:2007.07314,
    equation 9; with the mean of predictions as in DebiasPL, CVPR 2022, arXiv:2201.01490.
    """

    kind: Literal["adjust_logits"] = "adjust_logits"
    strength: Strength = 0.4
    """How strongly; 0 changes nothing."""
    needs_labelled: ClassVar[bool] = False
    needs_pool: ClassVar[bool] = True

    def fit(self, mean: np.ndarray, before: RowMap, labelled: Labelled) -> Tilt:
        del before, labelled
        logs = np.log(np.maximum(mean, GUARD))
        return Tilt(shift=tuple((-number(self.strength) * logs).tolist()))


class Transport(Spec):
    """Labels allocated to rows so that classes get their shares; see `trainables.transport`.

    'partial' is P2OT (Zhang et al., ICLR 2024, arXiv:2401.09266), 'allocation' Sinkhorn label
    allocation (Tai et al., ICML 2021, arXiv:2102.08622), 'balanced' plain Sinkhorn (Asano et al.,
    ICLR 2020, arXiv:1911.05371), 'refine' DARP (Kim et al., NeurIPS 2020, arXiv:2007.08844).
    Departs from the papers: fitted once a round on at most 16,384 rows of the pool and applied row
    by row, instead of on a memory of recent batches.
    """

    kind: Literal["transport"] = "transport"
    plan: Literal["partial", "allocation", "balanced", "refine"] = "partial"
    """Which of the four."""
    target: Literal["uniform", "labelled", "estimated", "wilson"] = "uniform"
    """Class shares: equal, those of the labelled rows, or the pool's own as estimated from
    out-of-fold predictions; 'allocation' takes them as upper bounds, and alone may have 'wilson',
    the upper ends of the 95 % intervals that the labelled rows leave."""
    share: Annotated[Scalar, Bounds(low=0.01, high=1)] = 1.0
    """Share of the pool's mass that is labelled, of 'partial' and 'allocation'; the weighting
    'mass' lets each row count by its part of it."""
    epsilon: Annotated[float, Field(ge=0.003, le=10)] = 0.1
    """Smoothness of 'partial', 'allocation' and 'balanced'; small ones follow the teacher."""
    slack: Annotated[float, Field(ge=1, le=10)] = 1.0
    """The bounds of 'allocation' are this many times the target."""
    gamma: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How strongly 'partial' draws classes to their shares."""
    alpha: Annotated[float, Field(ge=1, le=10)] = 2.0
    """A class of 'refine' first keeps this many times its share of its most probable rows."""
    iterations: Annotated[int, Field(ge=1, le=1000)] = 10
    """Passes of 'refine'."""
    needs_pool: ClassVar[bool] = False

    @model_validator(mode="after")
    def _bounds_are_of_allocation(self) -> Self:
        if self.target == "wilson" and self.plan != "allocation":
            raise ValueError("target wilson gives bounds, which plan allocation alone has")
        return self

    @property
    def needs_labelled(self) -> bool:
        return self.target == "estimated"

    def fit_rows(self, rows: np.ndarray, before: RowMap, labelled: Labelled) -> RowMap:
        """The map that a sample of the pool's log-probabilities float64 [n, C] gives."""
        rows = rows[(rows < np.inf).all(axis=1)]
        num = len(labelled.class_rows)
        target, prior = np.full(num, 1 / num), ()
        if self.target == "labelled":
            target = np.maximum(labelled.class_rows, 1) / np.maximum(labelled.class_rows, 1).sum()
        elif self.target == "wilson":
            target = transport.wilson_upper(labelled.class_rows)
        elif self.target == "estimated" and len(rows):
            target = estimated_prior(before, labelled, np.exp(rows).mean(axis=0))
            prior = tuple(target.tolist())
        share = number(self.share)
        if self.plan == "refine":
            return Refined(transport.refine(rows, target, self.alpha, self.iterations), prior)
        if self.plan == "balanced":
            found = transport.balanced(rows, target, self.epsilon)
        elif self.plan == "partial":
            found = transport.partial(rows, share, target, self.epsilon, self.gamma)
        else:
            bounds = np.minimum(target * self.slack, 1)
            found = transport.allocation(rows, share, bounds, reg=1 / self.epsilon)
        sink = None if found.sink == -math.inf else float(found.sink)
        shift = tuple(float(value) for value in found.shift)
        least = math.log(transport.LEAST)
        return Tilt(float(found.power), shift, sink, least, found.solved, prior=prior)


Calibrator = Annotated[
    Temperature | Sharpen | Align | AdjustLogits | Transport,
    Field(discriminator="kind"),
]


@runtime_checkable
class FromFeatures(Protocol):
    """A calibrator that reads where rows lie in feature space."""

    needs_features: ClassVar[bool]

    def fit_sample(self, sample: Beliefs) -> RowMap:
        """The map that a sample of the pool gives, as the map before it leaves the rows."""


def fit_chain(
    calibrators: Sequence[Calibrator | FromFeatures],
    mean_of: Callable[[int, RowMap], np.ndarray],
    labelled: Labelled,
    rows_of: Callable[[RowMap], np.ndarray] | None = None,
    sample_of: Callable[[RowMap], Beliefs] | None = None,
) -> RowMap:
    """The calibrators fitted one after the other, as one map.

    ``mean_of`` gives the mean prediction [C] that calibrator i sees behind the map before it,
    ``rows_of`` a sample of the pool's log-probabilities [n, C] behind it, ``sample_of`` the same
    rows with their features.

    Raises:
        ValueError: A calibrator reads rows and there is no sample of them.
    """
    whole: RowMap = Tilt()
    for i, calibrator in enumerate(calibrators):
        if isinstance(calibrator, FromFeatures):
            if sample_of is None:
                raise ValueError("calibrators that read features act on the stored table only")
            whole = whole.then(calibrator.fit_sample(sample_of(whole)))
            continue
        if isinstance(calibrator, Transport):
            if rows_of is None:
                raise ValueError(f"calibrator {calibrator.kind} acts on the stored table only")
            rows = rows_of(whole).astype(np.float64)
            whole = whole.then(calibrator.fit_rows(rows, whole, labelled))
            continue
        mean = mean_of(i, whole) if calibrator.needs_pool else np.zeros(0)
        whole = whole.then(calibrator.fit(mean, whole, labelled))
    return whole


def estimated_prior(before: RowMap, labelled: Labelled, mean: np.ndarray) -> np.ndarray:
    """The pool's class balance, float64 [C], from its mean prediction and out-of-fold rows.

    Solves C q = mean with C[:, k] the mean prediction of labelled rows of class k; negative shares
    become 0. Source: Lipton et al., BBSE, ICML 2018, arXiv:1802.03916, in its soft form.
    """
    beliefs, labels = labelled.beliefs, labelled.labels
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
