"""A mergeable summary of confidences by predicted class: what table selectors are fitted on.

A row becomes one 64-bit key: the bits of its confidence (float32 bits grow with the value) above a
seeded hash of its id. Keys order rows by confidence with ties broken by the hash, so a rule is a
cut between keys, is applied row by row, and never depends on the order or sharding of rows.

Small pools keep every key, which is exact. Pools above ``EXACT_ROWS`` keep counts of coarse keys:
14 bits of mantissa and 4 bits of hash, or 16 where the confidence is saturated and many rows share
one value. Memory is then bounded by the number of distinct coarse keys, a cut falls within 2^-14 of
the asked confidence (relative), and counts are exact up to one coarse key. Which of the two is used
depends on the size of the whole pool, never on the shard.
"""

from dataclasses import dataclass, field

import numpy as np

from trainables.beliefs import Beliefs
from trainables.pool_mean import NOTHING, PoolMean, pool_mean
from trainables.randomness import id_hash

EXACT_ROWS = 1 << 23
_SATURATED = np.uint64(int(np.float32(1 - 2.0**-13).view(np.uint32)) >> (23 - 14))
"""The coarse confidence from which most rows of a well-trained teacher lie."""


@dataclass(frozen=True)
class Sketch:
    """Sorted distinct keys and their counts, for each predicted class."""

    num_classes: int
    coarse: bool
    keys: dict[int, np.ndarray] = field(default_factory=dict)
    """By class: sorted distinct keys, uint64."""
    counts: dict[int, np.ndarray] = field(default_factory=dict)
    """By class: rows of each key, int64."""
    mean: PoolMean = field(default=NOTHING)
    """Mean probabilities of the rows."""
    rows: np.ndarray | None = None
    """Log-probabilities float32 [n, C] of a sample, if a selector asked for one."""
    sample: Beliefs | None = None
    """The same rows with ids, and features where the table has them."""

    def merge(self, other: "Sketch") -> "Sketch":
        """The sketch of both row sets together; commutative and associative."""
        if (self.num_classes, self.coarse) != (other.num_classes, other.coarse):
            raise ValueError("only sketches of one pool can be merged")
        keys, counts = dict(self.keys), dict(self.counts)
        for label, theirs in other.keys.items():
            if label not in keys:
                keys[label], counts[label] = theirs, other.counts[label]
                continue
            both = np.concatenate([keys[label], theirs])
            weight = np.concatenate([counts[label], other.counts[label]])
            keys[label], place = np.unique(both, return_inverse=True)
            counts[label] = np.bincount(place, weights=weight).astype(np.int64)
        return Sketch(self.num_classes, self.coarse, keys, counts, self.mean.merge(other.mean))

    def class_rows(self) -> np.ndarray:
        """Rows predicted as each class, int64 [C]."""
        return np.array(
            [int(self.counts.get(k, np.zeros(1)).sum()) for k in range(self.num_classes)]
        )

    def shares(self) -> np.ndarray:
        """Mean probabilities, float64 [C]; uniform over no rows."""
        return (
            self.mean.shares()
            if self.mean.rows
            else np.full(self.num_classes, 1 / self.num_classes)
        )

    def mean_confidence(self) -> float:
        """Mean confidence of all rows; 0 over none."""
        values, counts = self._all_confidences()
        return float(values @ counts) / max(1, int(counts.sum()))

    def confidence_variance(self) -> float:
        """Unbiased variance of the confidences; 0 over fewer than two rows."""
        values, counts = self._all_confidences()
        around = (values - self.mean_confidence()) ** 2
        return float(around @ counts) / max(1, int(counts.sum()) - 1)

    def sure_rows(self, least: float) -> tuple[np.ndarray, int]:
        """Rows by predicted class that are at least this confident, int64 [C], and all others."""
        sure = self.reaching(
            (0,) * self.num_classes, (float(np.float32(least)),) * self.num_classes
        )
        return sure, int(self.class_rows().sum() - sure.sum())

    def sampled_rows(self) -> np.ndarray:
        """Log-probabilities float32 [n, C] of a sample of the pool.

        Raises:
            ValueError: None was taken.
        """
        if self.rows is None:
            raise ValueError("no sample of rows was taken")
        return self.rows

    def sampled(self) -> Beliefs:
        """A sample of the pool, with features.

        Raises:
            ValueError: None was taken.
        """
        if self.sample is None:
            raise ValueError("no sample of rows was taken")
        return self.sample

    def reaching(self, cuts: tuple[int, ...], least: tuple[float, ...]) -> np.ndarray:
        """Rows by predicted class that reach its cut and its least confidence, int64 [C]."""
        rows = np.zeros(self.num_classes, np.int64)
        for label, keys in self.keys.items():
            at = int(np.searchsorted(keys, np.uint64(cuts[label]), side="left"))
            confidence = confidence_of(keys[at:], coarse=self.coarse)
            reach = int(np.searchsorted(confidence, np.float64(least[label]), "left"))
            rows[label] = int(self.counts[label][at + reach :].sum())
        return rows

    def _all_confidences(self) -> tuple[np.ndarray, np.ndarray]:
        pairs = [self.confidences(label) for label in range(self.num_classes)]
        return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])

    def confidences(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Sorted confidences of a predicted class, float64, and the rows of each, int64."""
        keys = self.keys.get(label, np.zeros(0, np.uint64))
        counts = self.counts.get(label, np.zeros(0, np.int64))
        return confidence_of(keys, coarse=self.coarse).astype(np.float64), counts

    def class_cut(self, label: int, num_rows: int) -> int:
        """The key from which the ``num_rows`` most confident rows of a class start."""
        return _cut(self.keys.get(label), self.counts.get(label), num_rows)

    def quantile(self, share: float) -> float:
        """Confidence below which ``share`` of all rows lie, linear between order statistics."""
        all_keys = np.concatenate(list(self.keys.values()) or [np.zeros(0, np.uint64)])
        weight = np.concatenate(list(self.counts.values()) or [np.zeros(0, np.int64)])
        if not len(all_keys):
            return 2.0  # no row at all: a cut that none would reach
        order = np.argsort(all_keys, kind="stable")
        values, reach = confidence_of(all_keys[order], coarse=self.coarse), weight[order].cumsum()
        place = share * float(reach[-1] - 1)
        if abs(place - round(place)) < 1e-6:  # 1 - 0.7 is above 0.3 in binary
            place = float(round(place))
        low, high = (
            float(values[np.searchsorted(reach, at, side="right")])
            for at in (int(np.floor(place)), int(np.ceil(place)))
        )
        return low + (high - low) * float(place - np.floor(place))


def sketch(
    beliefs: Beliefs, *, pool_rows: int, seed: int, num_classes: int | None = None
) -> Sketch:
    """The sketch of a block of a pool of ``pool_rows`` rows in all.

    ``num_classes`` is needed for beliefs that hold no distributions.
    """
    coarse = pool_rows > EXACT_ROWS
    usable = beliefs.usable()
    keys = row_keys(beliefs, coarse=coarse, seed=seed)
    found: dict[int, np.ndarray] = {}
    counts: dict[int, np.ndarray] = {}
    for label in np.unique(beliefs.labels[usable]).tolist():
        mine = usable & (beliefs.labels == label)
        found[label], counts[label] = np.unique(keys[mine], return_counts=True)
    num = beliefs.num_classes if num_classes is None else num_classes
    return Sketch(num, coarse, found, counts, pool_mean(beliefs))


def row_keys(beliefs: Beliefs, *, coarse: bool, seed: int) -> np.ndarray:
    """One key for each row, uint64 [N]."""
    hashed = id_hash(seed, beliefs.example_ids).astype(np.uint64)
    keys = confidence_keys(beliefs.confidence) | hashed
    return coarsen(keys) if coarse else keys


def confidence_keys(confidence: np.ndarray) -> np.ndarray:
    """The least key that a row of each confidence float32 [N] may have, uint64 [N]."""
    bits = confidence.astype(np.float32).view(np.uint32).astype(np.uint64)
    return bits << np.uint64(32)


def coarsen(keys: np.ndarray) -> np.ndarray:
    """Keys cut to 14 bits of mantissa and 4 bits of hash, or 16 where many rows share a bin."""
    confidence = keys >> np.uint64(32 + 23 - 14)
    hashed = (keys & np.uint64(0xFFFFFFFF)) >> np.uint64(16)
    hashed = np.where(confidence >= _SATURATED, hashed, hashed & np.uint64(0xF000))
    return (confidence << np.uint64(16)) | hashed


def confidence_of(keys: np.ndarray, *, coarse: bool) -> np.ndarray:
    """Confidences float32 that keys stand for (their lower edge when coarse)."""
    bits = (keys >> np.uint64(16)) << np.uint64(23 - 14) if coarse else keys >> np.uint64(32)
    return bits.astype(np.uint32).view(np.float32)


def _cut(keys: np.ndarray | None, counts: np.ndarray | None, num_rows: int) -> int:
    nothing = int(np.iinfo(np.uint64).max)
    if keys is None or counts is None or num_rows <= 0:
        return nothing
    from_top = counts[::-1].cumsum()
    place = int(np.searchsorted(from_top, num_rows, side="left"))
    return int(keys[::-1][min(place, len(keys) - 1)])
