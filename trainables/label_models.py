"""Label models: the votes of several label sources become one distribution per row.

A model is fitted on a table of votes and then reads any row on its own, so a pool may be cut into
blocks in any way. EM runs on the distinct rows of the table and their counts, so the order of the
rows does not change a bit of what is fitted.

Legend: N rows, M sources, C classes, P distinct rows.
"""

from dataclasses import dataclass, replace

import numpy as np

ITERATIONS = 50
"""Steps of EM."""
START_ACCURACY = 0.7
"""What EM takes a source's accuracy for if it is told nothing (house rule)."""
CLIP = (0.05, 0.95)
"""Accuracies that EM leaves no source beyond; triplets heed the higher one (house rule)."""


@dataclass(frozen=True)
class Majority:
    """The share of the sources' weight that each class gets."""

    prior: np.ndarray
    """What a row without votes gets, float64 [C]."""
    weights: np.ndarray
    """Weight of each source, float64 [M], at least 0."""

    def labels(self, votes: np.ndarray) -> np.ndarray:
        """Distributions float64 [N, C] of votes int64 [N, M]; -1 abstains."""
        num_classes = len(self.prior)
        votes = _checked(votes, len(self.weights), num_classes)
        tally = _tally(votes, self.weights, num_classes)
        total = tally.sum(axis=1, keepdims=True)
        return np.asarray(np.where(total > 0, tally / np.where(total > 0, total, 1), self.prior))


@dataclass(frozen=True)
class OneCoin:
    """A source is right with its accuracy, else any wrong class is equally likely.

    Abstaining says nothing. Source: Dawid and Skene, Maximum likelihood estimation of observer
    error-rates using the EM algorithm, Applied Statistics 28, 1979, with one number a source.
    """

    prior: np.ndarray
    """Class balance, float64 [C]."""
    accuracy: np.ndarray
    """How often each source that votes is right, float64 [M], in (0, 1)."""
    multiplicity: float = 1.0
    """The log-likelihood is divided by it (house rule): about how many sources say the same."""

    def __post_init__(self) -> None:
        if not ((self.accuracy > 0) & (self.accuracy < 1)).all():
            raise ValueError(f"accuracy must be in (0, 1), got {self.accuracy}")
        if not self.multiplicity >= 1:
            raise ValueError(f"multiplicity must be at least 1, got {self.multiplicity}")

    def labels(self, votes: np.ndarray) -> np.ndarray:
        """Posteriors float64 [N, C] of votes int64 [N, M]; -1 abstains."""
        num_classes = len(self.prior)
        log_odds = np.log(self.accuracy) - np.log((1 - self.accuracy) / max(1, num_classes - 1))
        votes = _checked(votes, len(self.accuracy), num_classes)
        return _posterior(self.prior, _tally(votes, log_odds / self.multiplicity, num_classes))


@dataclass(frozen=True)
class DawidSkene:
    """Each source has its own way of confusing classes; abstaining says nothing.

    Source: Dawid and Skene, Maximum likelihood estimation of observer error-rates using the EM
    algorithm, Applied Statistics 28, 1979. Departs from the paper: counts are smoothed.
    """

    prior: np.ndarray
    """Class balance, float64 [C]."""
    confusion: np.ndarray
    """How often source m votes l on a row of class k, float64 [M, C, C] at [m, k, l]; above 0."""

    def __post_init__(self) -> None:
        if not (self.confusion > 0).all():
            raise ValueError("confusion must be above 0 everywhere; smooth the counts")

    def labels(self, votes: np.ndarray) -> np.ndarray:
        """Posteriors float64 [N, C] of votes int64 [N, M]; -1 abstains."""
        votes = _checked(votes, len(self.confusion), len(self.prior))
        logs = np.zeros((len(votes), len(self.prior)))
        for source, log_confusion in zip(votes.T, np.log(self.confusion), strict=True):
            voted = source >= 0
            logs[voted] += log_confusion[:, source[voted]].T
        return _posterior(self.prior, logs)


@dataclass(frozen=True)
class Votes:
    """A table of votes to fit a label model on."""

    table: np.ndarray
    """Voted classes, int64 [N, M]; -1 abstains."""
    num_classes: int

    def __post_init__(self) -> None:
        _checked(self.table, self.table.shape[-1], self.num_classes)

    def majority(
        self, weights: np.ndarray | None = None, prior: np.ndarray | None = None
    ) -> Majority:
        """The vote by weights [M]; equal weights and a uniform prior [C] unless told."""
        return Majority(_prior(prior, self.num_classes), _weights(weights, self.table.shape[1]))

    def one_coin(
        self,
        prior: np.ndarray | None = None,
        accuracy: np.ndarray | None = None,
        *,
        estimate_prior: bool = False,
        multiplicity: float = 1.0,
    ) -> OneCoin:
        """Accuracies by EM, from accuracies [M] of labelled rows outside the fold if given.

        The prior [C], uniform unless told, stays or is where its estimate starts. A source that
        never votes keeps the accuracy it starts with.
        """
        num = self.table.shape[1]
        start = np.full(num, START_ACCURACY) if accuracy is None else np.asarray(accuracy)
        if start.shape != (num,):
            raise ValueError(f"accuracies must be [{num}], got {start.shape}")
        rows, counts = np.unique(self.table, axis=0, return_counts=True)
        model = OneCoin(_prior(prior, self.num_classes), start.clip(*CLIP), multiplicity)
        for _ in range(ITERATIONS if len(rows) else 0):
            mass = model.labels(rows) * counts[:, None]
            found = model.accuracy.copy()
            for m, source in enumerate(rows.T):
                voted = source >= 0
                if voted.any():
                    found[m] = mass[voted, source[voted]].sum() / counts[voted].sum()
            balance = mass.sum(axis=0) / counts.sum() if estimate_prior else model.prior
            model = replace(model, prior=balance, accuracy=found.clip(*CLIP))
        return model

    def one_coin_of_triplets(self, *, multiplicity: float = 1.0) -> OneCoin:
        """Accuracies in closed form, from how often each two of three sources agree.

        With c = (C accuracy - 1) / (C - 1) for what a source has above chance, sources that err
        independently agree in a share (1 + (C - 1) c_i c_j) / C of rows, which gives
        O_ij = c_i c_j. Each triplet says that O_ij O_ik = c_i^2 O_jk; c_i^2 is its least-squares
        solution over those in which O_jk, or both others, exceed three of their standard errors;
        O_jk counts as its standard error at least. A source in none of them is thought as good as
        the one that it agrees with most, and as EM starts with if it agrees with none.

        Source: Fu et al., Fast and three-rious, ICML 2020, arXiv:2002.11955, and Shin et al.,
        Universalizing weak supervision, ICLR 2022, arXiv:2112.03865. Departs from the papers: least
        squares instead of one triplet or the median; no source is worse than chance.
        """
        voted = self.table >= 0
        together = voted[:, :, None] & voted[:, None, :]
        agree = together & (self.table[:, :, None] == self.table[:, None, :])
        share, known = _over_pairs(agree.astype(np.float64), together)
        rest = max(1, self.num_classes - 1)
        above = ((self.num_classes * share - 1) / rest).clip(min=0) * known
        rows = np.maximum(1, together.sum(axis=0))
        noise = self.num_classes / rest * np.sqrt(share * (1 - share) / rows)
        sure = known * (above > 3 * noise)
        below = np.maximum(above, noise) * known
        square, found = (
            np.einsum("ij,ik,jk->i", a, a, b * sure)
            + np.einsum("ij,ik,jk->i", a * sure, a * sure, b * (known - sure))
            for a, b in ((above, below), (known, below**2))
        )
        best = (above * sure).max(axis=1, initial=0)
        square = np.where(found > 0, square / np.where(found > 0, found, 1), best).clip(0, 1)
        accuracy = (1 + rest * np.sqrt(square)) / self.num_classes
        accuracy = np.where((found > 0) | (best > 0), accuracy, START_ACCURACY).clip(max=CLIP[1])
        return OneCoin(_prior(None, self.num_classes), accuracy, multiplicity)

    def dawid_skene(self, known: np.ndarray | None = None, *, smoothing: float = 0.1) -> DawidSkene:
        """Confusions and prior by EM from the majority vote, ``smoothing`` added to every count.

        ``known`` holds true classes, int64 [N], -1 where unknown; those rows stay what they are.
        """
        if not smoothing > 0:
            raise ValueError(f"smoothing must be above 0, got {smoothing}")
        given = np.full(len(self.table), -1) if known is None else np.asarray(known)
        given = _checked(given.reshape(-1, 1), 1, self.num_classes)
        both = np.column_stack([self.table, given])
        distinct, counts = np.unique(both, axis=0, return_counts=True)
        rows, truth = distinct[:, :-1], distinct[:, -1]
        clamped = np.eye(self.num_classes)[truth]

        def counted(posterior: np.ndarray) -> DawidSkene:
            posterior = np.where(truth[:, None] >= 0, clamped, posterior)
            return _counted(rows, posterior * counts[:, None], smoothing)

        model = counted(self.majority().labels(rows))
        for _ in range(ITERATIONS):
            model = counted(model.labels(rows))
        return model


def triplet_weights(distances: np.ndarray) -> np.ndarray:
    """What each source is worth, float64 [M] in (0, 1]: the less, the farther from the truth.

    ``distances`` [N, M, M] are those of `medoid`, between labels of any kind. Where they are the
    squares of Euclidean ones, as total variation is, and errors independent and zero in mean, the
    mean distances of a source to two others less that between those two are twice its own to the
    truth. Its worth is the inverse of that; none counts as nearer than a hundredth of the mean
    distance, which is worth 1 (house rule).

    Source: the continuous triplets of Shin et al., Universalizing weak supervision, ICLR 2022,
    arXiv:2112.03865. Departs from the paper: the mean over all triplets of sources of which every
    two labelled a row together; a source in none is worth what the mean of the others is.
    """
    distances = _checked_distances(distances)
    seen = _both_told(distances)
    mean, known = _over_pairs(np.where(seen, distances, 0), seen)
    among = np.einsum("ij,ik,jk->i", known, known, known)
    twice = 2 * np.einsum("ij,ik,jk->i", mean, known, known)
    twice -= np.einsum("ij,ik,jk->i", known, known, mean)
    if not among.any() or not mean.any():
        return np.ones(len(mean))
    least = mean.sum() / known.sum() / 100
    error = twice / np.maximum(1, 2 * among)
    error = np.maximum(np.where(among > 0, error, error[among > 0].mean()), least)
    return np.asarray(least / error)


def medoid(distances: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Each row's candidate nearest to all others, int64 [N]; the lowest on ties, -1 for none.

    ``distances`` float64 [N, M, M] are those between a row's candidates, for labels of any kind; a
    candidate whose distance to itself is NaN abstains. ``weights`` [M] are those of the sources.

    Source: the weighted distance of Shin et al., Universalizing weak supervision, ICLR 2022,
    arXiv:2112.03865. Departs from the paper: only labels that a source proposed are candidates.
    """
    distances = _checked_distances(distances)
    num = distances.shape[-1]
    among = _both_told(distances)
    votes = among.diagonal(axis1=1, axis2=2)
    cost = (np.where(among, distances, 0) * _weights(weights, num)).sum(axis=2)
    found = np.where(votes, cost, np.inf).argmin(axis=1)
    return np.where(votes.any(axis=1), found, -1).astype(np.int64)


def _checked(votes: np.ndarray, num_sources: int, num_classes: int) -> np.ndarray:
    votes = np.asarray(votes)
    if votes.ndim != 2 or votes.shape[1] != num_sources or votes.dtype.kind != "i":
        raise ValueError(f"votes must be int64 [N, {num_sources}], got {votes.dtype} {votes.shape}")
    if votes.size and not (votes.min() >= -1 and votes.max() < num_classes):
        raise ValueError(f"votes must be -1 or a class below {num_classes}, got {np.unique(votes)}")
    return votes


def _checked_distances(distances: np.ndarray) -> np.ndarray:
    distances = np.ascontiguousarray(distances, np.float64)
    num = distances.shape[-1]
    if distances.ndim != 3 or num < 1 or distances.shape[1] != num:
        raise ValueError(f"distances must be [N, M, M], got {distances.shape}")
    return distances


def _both_told(distances: np.ndarray) -> np.ndarray:
    """Whether two candidates of a row both say something, bool [N, M, M]."""
    told = ~np.isnan(distances.diagonal(axis1=1, axis2=2))
    among = np.asarray(told[:, :, None] & told[:, None, :])
    if np.isnan(distances[among]).any():
        raise ValueError("distances between candidates that do not abstain must be numbers")
    return among


def _weights(weights: np.ndarray | None, num_sources: int) -> np.ndarray:
    found = np.ones(num_sources) if weights is None else np.asarray(weights, np.float64)
    if found.shape != (num_sources,) or not ((found >= 0) & (found < np.inf)).all():
        raise ValueError(f"weights must be {num_sources} finite numbers >= 0, got {weights}")
    return found


def _prior(prior: np.ndarray | None, num_classes: int) -> np.ndarray:
    found = np.ones(num_classes) if prior is None else np.asarray(prior, np.float64)
    if found.shape != (num_classes,) or not ((found >= 0).all() and found.sum() > 0):
        raise ValueError(f"prior must be {num_classes} shares of at least 0, got {prior}")
    return np.asarray(found / found.sum())


def _tally(votes: np.ndarray, weights: np.ndarray, num_classes: int) -> np.ndarray:
    """Weight that each class gets, float64 [N, C]."""
    tally = np.zeros((len(votes), num_classes))
    for source, weight in zip(votes.T, weights.tolist(), strict=True):
        voted = np.flatnonzero(source >= 0)
        tally[voted, source[voted]] += weight
    return tally


def _posterior(prior: np.ndarray, log_likelihood: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # a class of prior 0 stays at 0
        logs = np.log(prior) + log_likelihood
    return np.asarray(np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True)))


def _counted(rows: np.ndarray, mass: np.ndarray, smoothing: float) -> DawidSkene:
    """The model of votes [P, M] on rows of which mass [P, C] belongs to each class."""
    num_classes = mass.shape[1]
    counts = np.full((rows.shape[1], num_classes, num_classes), smoothing)  # [m, l, k]
    for source, into in zip(rows.T, counts, strict=True):
        voted = source >= 0
        np.add.at(into, source[voted], mass[voted])
    confusion = (counts / counts.sum(axis=1, keepdims=True)).transpose(0, 2, 1)
    balance = mass.sum(axis=0) + smoothing
    return DawidSkene(balance / balance.sum(), confusion)


def _over_pairs(values: np.ndarray, together: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the rows in which two sources voted ``together``, and 1 where there were any, or 0.

    Values are [N, M, M], 0 elsewhere; both results are float64 [M, M] with a diagonal of 0.
    """
    rows = together.sum(axis=0) * (1 - np.eye(together.shape[1]))
    known = (rows > 0).astype(np.float64)
    return values.sum(axis=0) * known / np.maximum(1, rows), known
