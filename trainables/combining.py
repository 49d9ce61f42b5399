"""Several label sources to one belief per row.

A combiner is fitted, on a sample of rows if it needs one, and applied row by row.

Legend: M sources, N rows, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field
from scipy.special import entr

from trainables.beliefs import DOUBT, Beliefs, Doubt
from trainables.ensembles import (
    agreement,
    confidence_vote,
    margin_test,
    mean_log_probs,
    spread_of_label,
)
from trainables.label_models import Votes, medoid, triplet_weights
from trainables.spec import Spec


class Combined(Protocol):
    """A fitted combiner."""

    def log_probs(self, told: np.ndarray) -> np.ndarray:
        """Log-probabilities [N, C] of rows that the sources believe [M, N, C] about."""


class Mean(Spec):
    """The mean of the sources' probabilities."""

    kind: Literal["mean"] = "mean"
    needs_sample: ClassVar[bool] = False
    average: Literal["arithmetic", "geometric"] = "arithmetic"
    """'arithmetic', or 'geometric' and normalised: a product of experts."""

    def fit(self, sample: np.ndarray) -> Combined:
        del sample
        return self

    def log_probs(self, told: np.ndarray) -> np.ndarray:
        return mean_log_probs(told, kind=self.average)


class ConfidenceVote(Spec):
    """Sharpened probabilities, each source weighed by its certainty about the row.

    The less certain the sources are, the less they count against a label that is remembered from
    the round before. Source: Manni et al., SPARSE; see `trainables.ensembles.confidence_vote`.
    """

    kind: Literal["confidence_vote"] = "confidence_vote"
    needs_sample: ClassVar[bool] = False
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.5
    """Probabilities are raised to 1/temperature first."""

    def fit(self, sample: np.ndarray) -> Combined:
        del sample
        return self

    def log_probs(self, told: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(confidence_vote(told, self.temperature)))

    def certainty(self, told: np.ndarray) -> np.ndarray:
        """Mean certainty of the sources about each row, float64 [N], in [0, 1]."""
        return np.asarray(confidence_vote(told, self.temperature, normalised=False).sum(axis=1))


class Choose(Spec):
    """For each row the source that knows it best.

    Source: Cho et al., FedLabel, as released in msrflute: the source whose probabilities have the
    larger variance over the classes; the lower entropy as its option.
    """

    kind: Literal["choose"] = "choose"
    needs_sample: ClassVar[bool] = False
    by: Literal["variance", "entropy", "confidence"] = "variance"
    """The larger variance over the classes, the lower entropy, or the larger confidence."""

    def fit(self, sample: np.ndarray) -> Combined:
        del sample
        return self

    def log_probs(self, told: np.ndarray) -> np.ndarray:
        best = np.nan_to_num(self.scores(told), nan=-np.inf).argmax(axis=0)
        return np.asarray(told[best, np.arange(told.shape[1])])

    def scores(self, told: np.ndarray) -> np.ndarray:
        """How well each source knows each row, float64 [M, N]; the variance is the population's."""
        probs = np.exp(told.astype(np.float64))
        if self.by == "variance":
            return np.asarray(probs.var(axis=2))
        if self.by == "entropy":
            return np.asarray(-entr(probs).sum(axis=2))
        return np.asarray(probs.max(axis=2))


class First(Spec):
    """The labels of the first source, the final teacher of the first student.

    The others only tell how far they are apart from it.
    """

    kind: Literal["first"] = "first"
    needs_sample: ClassVar[bool] = False

    def fit(self, sample: np.ndarray) -> Combined:
        del sample
        return self

    def log_probs(self, told: np.ndarray) -> np.ndarray:
        return np.asarray(told[0])


class Medoid(Spec):
    """For each row the source that is nearest to all others, by total variation.

    An outlier among the sources moves nothing, however sure it is. Source: the weighted distance of
    Shin et al., Universalizing weak supervision, ICLR 2022, arXiv:2112.03865, over the sources'
    distributions; see `trainables.label_models.medoid` and `triplet_weights` there.
    """

    kind: Literal["medoid"] = "medoid"
    weights: Literal["equal", "triplets"] = "equal"
    """All sources count alike, or each as the distances between three say how near it is to the
    truth; those are fitted on at most 16,384 rows."""

    @property
    def needs_sample(self) -> bool:
        """Whether it is fitted on rows."""
        return self.weights == "triplets"

    def fit(self, sample: np.ndarray) -> Combined:
        equal = np.ones(len(sample))
        return _Nearest(triplet_weights(_apart(sample)) if self.needs_sample else equal)


@dataclass(frozen=True)
class _Nearest:
    """A fitted medoid."""

    weights: np.ndarray
    """Of each source, float64 [M]."""

    def log_probs(self, told: np.ndarray) -> np.ndarray:
        best = medoid(_apart(told), self.weights)
        return np.asarray(told[best, np.arange(told.shape[1])])


def _apart(told: np.ndarray) -> np.ndarray:
    """Total variation between each two sources on each row, float64 [N, M, M]."""
    probs = np.exp(told.astype(np.float64))
    return np.stack([np.abs(probs - each).sum(axis=2) / 2 for each in probs]).transpose(2, 1, 0)


class LabelModel(Spec):
    """Sources vote for their most probable class; a label model weighs the votes.

    Source: Dawid and Skene, Applied Statistics 1979; with one accuracy a source as in Ratner et
    al., Data programming, NeurIPS 2016, arXiv:1605.07723. Fitted on at most 16,384 rows.
    """

    kind: Literal["label_model"] = "label_model"
    needs_sample: ClassVar[bool] = True
    model: Literal["majority", "one_coin", "triplets", "dawid_skene"] = "dawid_skene"
    """Equal votes; one accuracy for each source, by EM or from how often three agree; a confusion
    matrix for each source."""
    abstain_below: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A source that is less confident does not vote on the row."""
    multiplicity: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Votes of one accuracy count this many times less: for sources that err together."""

    def fit(self, sample: np.ndarray) -> Combined:
        votes = Votes(self._votes(sample), sample.shape[2])
        if self.model == "majority":
            return _Voted(self, votes.majority().labels)
        if self.model == "one_coin":
            return _Voted(self, votes.one_coin(multiplicity=self.multiplicity).labels)
        if self.model == "triplets":
            return _Voted(self, votes.one_coin_of_triplets(multiplicity=self.multiplicity).labels)
        return _Voted(self, votes.dawid_skene().labels)

    def _votes(self, told: np.ndarray) -> np.ndarray:
        """Votes int64 [N, M] of beliefs [M, N, C]; -1 abstains."""
        sure = np.exp(told.max(axis=2)) >= self.abstain_below
        return np.where(sure, told.argmax(axis=2), -1).T


class _Voted:
    """A fitted label model behind its votes."""

    def __init__(self, spec: LabelModel, labels: Callable[[np.ndarray], np.ndarray]) -> None:
        self._spec, self._labels = spec, labels

    def log_probs(self, told: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            logs = np.log(self._labels(self._spec._votes(told)))
        known = np.asarray((told < np.inf).all(axis=(0, 2)))  # a source without numbers leaves none
        return np.asarray(np.where(known[:, None], logs, np.nan))


class Specialists(Spec):
    """Sources that know some classes only, mapped into the space of all of them.

    A source that gives a class minus infinity says nothing of it. With p the mean of the sources
    that know all classes (uniform if there is none), a source that knows the set S becomes
    q_k = p(S) q(k | S) in S and p_k elsewhere. The result is (1 - trust) p_k + trust times the mean
    q_k of the sources that know k, normalised. Source: house rule; Gao et al., Knowledge
    concentration, arXiv:1711.07607, leaves it open here.
    """

    kind: Literal["specialists"] = "specialists"
    needs_sample: ClassVar[bool] = False
    trust: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the specialists in the result; 0 leaves the sources that know all classes."""

    def fit(self, sample: np.ndarray) -> Combined:
        del sample
        return self

    def log_probs(self, told: np.ndarray) -> np.ndarray:
        joint, known = self.joint(told), told != -np.inf
        general = _general(told)
        partial = known & ~known.all(axis=2, keepdims=True)
        times = partial.sum(axis=0)
        special = np.where(partial, joint, 0).sum(axis=0) / np.maximum(1, times)
        found = (1 - self.trust) * general + self.trust * np.where(times, special, general)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(found / found.sum(axis=1, keepdims=True)))

    def joint(self, told: np.ndarray) -> np.ndarray:
        """Each source's probabilities of all classes, float64 [M, N, C], as it is completed."""
        known, general = told != -np.inf, _general(told)
        inside = np.where(known, general, 0).sum(axis=2, keepdims=True)
        probs = np.exp(told.astype(np.float64))
        completed = np.where(known, inside * probs, general)
        return np.asarray(np.where(known.all(axis=2, keepdims=True), probs, completed))


def _general(told: np.ndarray) -> np.ndarray:
    """Mean probabilities of the sources that know all classes, float64 [N, C]; else uniform."""
    whole = (told != -np.inf).all(axis=2, keepdims=True)
    count = whole.sum(axis=0)
    total = np.where(whole, np.exp(told.astype(np.float64)), 0).sum(axis=0)
    return np.asarray(np.where(count, total / np.maximum(1, count), 1 / told.shape[2]))


Combiner = Annotated[
    Mean | ConfidenceVote | Choose | First | Medoid | LabelModel | Specialists,
    Field(discriminator="kind"),
]


def combined(
    fitted: Combined,
    example_ids: list[str],
    told: np.ndarray,
    before: np.ndarray | None = None,
    keep: float = 0.0,
) -> Beliefs:
    """One belief per row from those of all sources [M, N, C], with their doubt.

    ``before`` [N, C] are the log-probabilities that the same rows had in the round before; they
    count with ``keep``, the new ones with 1 - ``keep`` (in a vote by certainty, times that), and as
    a further source of doubt. A row of NaN there had none: what is told of it now is all there is.
    """
    logs = fitted.log_probs(told)
    if isinstance(fitted, Specialists):
        with np.errstate(divide="ignore"):
            told = np.log(fitted.joint(told))
    new = np.zeros(len(logs), bool)
    if before is not None and keep:
        new = np.isnan(before).any(axis=1)
        alone, before = told, np.where(new[:, None], logs, before)
        sure = fitted.certainty(told) if isinstance(fitted, ConfidenceVote) else np.ones(len(logs))
        logs = _blended(before, logs, keep, (1 - keep) * sure)
        told = np.concatenate([told, before[None]])
    beliefs = Beliefs.of_log_probs(example_ids, logs.astype(np.float32))
    doubt = _doubt(told, beliefs.labels)
    if new.any():
        without = _doubt(alone, beliefs.labels)
        doubt = Doubt(*(np.where(new, getattr(without, n), getattr(doubt, n)) for n in DOUBT))
    return replace(beliefs, doubt=doubt)


def _doubt(told: np.ndarray, labels: np.ndarray) -> Doubt:
    """How far sources [M, N, C] are apart about rows with these labels [N]."""
    return Doubt(
        agreement=agreement(told, labels).astype(np.float32),
        spread=spread_of_label(told, labels).astype(np.float32),
        margin=margin_test(told).astype(np.float32),
    )


def _blended(before: np.ndarray, now: np.ndarray, keep: float, new: np.ndarray) -> np.ndarray:
    """Log of the mean of two probabilities [N, C]; the latter counts with ``new`` [N]."""
    with np.errstate(divide="ignore", invalid="ignore"):  # rows of NaN stay so
        share = np.log(new / (keep + new))[:, None]
        rest = np.log(keep / (keep + new))[:, None]
        return np.asarray(np.logaddexp(before + rest, now + share))
