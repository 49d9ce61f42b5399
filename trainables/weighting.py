"""Weightings: how much an accepted row counts, fitted on the same statistics as the selector.

Legend: N rows, C classes.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainables.beliefs import Beliefs
from trainables.nearness import RowWeights, fit_dual_weights, fit_neighbour_weights
from trainables.neighbours import BankRows
from trainables.schedules import Bounds, Scalar, number
from trainables.selectors.rules import Rule, Statistics
from trainables.selectors.separation import Mode, Separation, separate
from trainables.spec import Spec

LEAST = float(np.finfo(np.float32).tiny)
"""No accepted row counts for nothing: a weight is in (0, 1]."""
LEAST_VARIANCE = 1e-6
"""Variances of confidences below this count as this."""
LEAST_LOSS = 1e-6
"""Median losses below this count as this: a class of certain rows has a pace too."""


@dataclass(frozen=True)
class Weights:
    """A weight for each row: by class, times confidence^power, times a Gaussian below a centre."""

    by_class: tuple[float, ...]
    """Factor of each class [C]."""
    power: float = 0.0
    centre: float = 0.0
    spread: float = 0.0
    """Standard deviation of the Gaussian; 0 leaves it out."""
    mass: bool = False
    """Rows count by the sum of their probabilities as well, which a transport plan may lower."""
    separation: Separation | None = None
    """Rows count by how far they are from the reliable ones as well."""
    alpha: float = 2.0
    """The larger, the more a row counts that is far from the reliable ones."""
    pace: tuple[float, ...] = ()
    """A row counts by 1 - loss / pace of its class [C], where its loss is -log confidence."""
    also: RowWeights | None = None
    """Rows count by what lies around them as well."""

    def of_rows(self, told: Beliefs, seen: Beliefs) -> np.ndarray:
        """Weights float32 [N] of rows as the network told them and as they are seen."""
        weight = self.of(seen.labels, seen.confidence, seen.log_probs)
        if self.also is None:
            return weight
        weight = weight * self.also.of(told, seen)
        return np.asarray(weight.clip(LEAST, 1).astype(np.float32))

    def of(
        self, labels: np.ndarray, confidence: np.ndarray, log_probs: np.ndarray | None = None
    ) -> np.ndarray:
        """Weights float32 [N] of rows with these classes, confidences and rows [N, C]."""
        sure = confidence.astype(np.float64)
        weight = np.array(self.by_class)[labels] * sure**self.power
        if self.spread:
            short = np.minimum(sure - self.centre, 0)
            weight = weight * np.exp(-(short**2) / (2 * self.spread**2))
        if self.pace:
            with np.errstate(divide="ignore"):
                weight = weight * (1 + np.log(sure) / np.array(self.pace)[labels]).clip(min=0)
        if log_probs is not None and self.mass:
            weight = weight * np.exp(log_probs.astype(np.float64)).sum(axis=1)
        if log_probs is not None and self.separation is not None:
            weight = weight * self.separation.weights(log_probs, self.alpha)
        return np.asarray(weight.clip(LEAST, 1).astype(np.float32))


class One(Spec):
    """Every row counts alike."""

    kind: Literal["one"] = "one"
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        del rule
        return Weights((1.0,) * pool.num_classes)


class Confidence(Spec):
    """A row counts by its confidence."""

    kind: Literal["confidence"] = "confidence"
    power: Annotated[float, Field(gt=0, le=10)] = 1.0
    """The confidence is raised to this."""
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        del rule
        return Weights((1.0,) * pool.num_classes, power=self.power)


class Gaussian(Spec):
    """1 from the pool's mean confidence on, a Gaussian's flank below it.

    exp(-min(c - mean, 0)^2 / (2 variance / num_sigma^2)) with the unbiased variance of the pool's
    confidences. Source: Chen et al., SoftMatch, ICLR 2023, arXiv:2301.10921, equations 6 to 8, with
    a memory of zero over the whole pool. The variance counts as 1e-6 at least, so that a pool of
    equal confidences leaves a flank.
    """

    kind: Literal["gaussian"] = "gaussian"
    num_sigma: Annotated[float, Field(gt=0, le=10)] = 2.0
    """The larger, the steeper the flank."""
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        del rule
        spread = max(pool.confidence_variance(), LEAST_VARIANCE) ** 0.5 / self.num_sigma
        return Weights((1.0,) * pool.num_classes, centre=pool.mean_confidence(), spread=spread)


class InverseClass(Spec):
    """A class counts the less the more rows of it are accepted; the rarest one's rows count 1.

    Source: the released code of Curriculum Labeling, arXiv:2001.06001: (N - n_k) / n_k.
    Departs from the paper: 1 / n_k, scaled so that the largest weight is 1.
    """

    kind: Literal["inverse_class"] = "inverse_class"
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        accepted = pool.reaching(rule.cuts, rule.least)
        if rule.filling is not None:
            accepted = accepted + np.array(rule.filling.rows)
        if rule.also is not None:
            sampled = pool.sampled()
            accepted = np.bincount(sampled.labels[rule.accepts(sampled)], minlength=len(accepted))
        elif rule.separation is not None:  # it reads whole rows, of which there is a sample
            rows = pool.sampled_rows()
            sampled = Beliefs.of_log_probs([""] * len(rows), rows)
            accepted = np.bincount(sampled.labels[rule.accepts(sampled)], minlength=len(accepted))
        least = min((int(n) for n in accepted if n), default=1)
        return Weights(tuple(least / max(1, int(n)) for n in accepted))


class Mass(Spec):
    """A row counts by the mass that a transport plan gives it; see the calibrator 'transport'."""

    kind: Literal["mass"] = "mass"
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        del rule
        return Weights((1.0,) * pool.num_classes, mass=True)


class Separated(Spec):
    """1 for reliable rows, a Gaussian of how far a row is from them for others.

    Source: CoVar, arXiv:2601.11670, as released; see `trainables.selectors.separation`.
    """

    kind: Literal["separated"] = "separated"
    mode: Mode = "neglog"
    """How the reliable side is told; see the selector 'separation'."""
    lam: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Weight of the spread."""
    alpha: Annotated[float, Field(gt=0, le=100)] = 2.0
    """The larger, the more a row counts that is far from the reliable ones."""
    needs_sample: ClassVar[bool] = True

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        del rule
        found = separate(pool.sampled_rows(), self.mode, self.lam)
        return Weights((1.0,) * pool.num_classes, separation=found, alpha=self.alpha)


class SelfPaced(Spec):
    """1 - loss / pace of its class, where a row's loss is -log confidence; at least next to 0.

    The pace of a class is ``pace`` times the median loss of the rows predicted as it. Source: the
    linear soft weights of self-paced learning, Jiang et al., Easy samples first, ACM Multimedia
    2014; in rounds, and by class, are choices of the house.
    """

    kind: Literal["self_paced"] = "self_paced"
    pace: Annotated[Scalar, Bounds(low=0.1, high=1000)] = 2.0
    """Losses from which a row counts for nothing, in median losses of its class."""
    needs_sample: ClassVar[bool] = False

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        del rule
        medians = []
        for label in range(pool.num_classes):
            values, rows = pool.confidences(label)
            half = np.searchsorted(rows.cumsum(), rows.sum() / 2) if len(rows) else 0
            loss = -float(np.log(max(values[half], LEAST))) if len(rows) else 1.0
            medians.append(max(loss, LEAST_LOSS))
        paces = tuple(number(self.pace) * loss for loss in medians)
        return Weights((1.0,) * pool.num_classes, pace=paces)


class Neighbourhood(Spec):
    """sigmoid(how compact a row is in its class) times the share of neighbours of its class.

    Compactness is the margin of `trainables.neighbours.class_margins`, standardised within the
    class. Source: house weighting after the adaptive weights of Ali et al., arXiv:2507.22075, whose
    formula is not public.
    """

    kind: Literal["neighbourhood"] = "neighbourhood"
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    """Neighbours asked."""
    bank: BankRows = 4096
    """Most rows among which they are sought; time grows with it."""
    trim: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of a class's rows, the farthest, that its prototype is made without."""
    needs_sample: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        del rule
        around = fit_neighbour_weights(pool.sampled(), self.k, self.trim, self.bank)
        return Weights((1.0,) * pool.num_classes, also=around)


class Dual(Spec):
    """How probable the label is to the network and to class prototypes, each by its best class.

    Source: Ali et al., DPA, WACV 2025, arXiv:2408.08855, as released. The network's side is as it
    labelled, before calibrators; prototypes are mean features of the classes behind them.
    """

    kind: Literal["dual"] = "dual"
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.05
    """Cosines to the prototypes are divided by this."""
    needs_sample: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True

    def fit(self, pool: Statistics, rule: Rule) -> Weights:
        del rule
        both = fit_dual_weights(pool.sampled(), self.temperature)
        return Weights((1.0,) * pool.num_classes, also=both)


Weighting = Annotated[
    One
    | Confidence
    | Gaussian
    | InverseClass
    | Mass
    | Separated
    | SelfPaced
    | Neighbourhood
    | Dual,
    Field(discriminator="kind"),
]
