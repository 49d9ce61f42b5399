"""What a row's neighbours in feature space say about its class.

A :class:`Bank` holds a bounded number of rows; any row is held against it on its own, so a pool may
be cut into blocks in any way. Products are taken in float32 over blocks of one shape, the last one
filled up with zeros, so what a row gets does not depend on the rows it is multiplied with.

Legend: N rows, B rows of a bank, D features, C classes, k neighbours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

BLOCK_CELLS = 2**24
"""Cosines held at once, about."""
BankRows = Annotated[int, Field(ge=16, le=1 << 14)]
"""Rows of a bank, as a setting; no sample of a pool is larger."""
LEAST_LENGTH = 1e-6
"""A mean of unit features shorter than this has no direction."""


@dataclass(frozen=True)
class Bank:
    """Rows to hold others against."""

    features: np.ndarray
    """Features of length 1, float32 [B, D]."""
    probs: np.ndarray
    """What each row counts as, float32 [B, C]; 0 or 1 for a labelled row."""
    ids: tuple[str, ...] = ()
    """Ids [B], each once; empty if unknown."""

    @classmethod
    def of_probs(cls, features: np.ndarray, probs: np.ndarray, ids: Sequence[str] = ()) -> "Bank":
        """A bank of features [B, D] and probabilities [B, C]; unusable rows are left out."""
        unit, usable = directions(features)
        usable = usable & np.isfinite(probs).all(axis=1)
        kept = [ids[row] for row in np.flatnonzero(usable).tolist()] if len(ids) else []
        return cls(unit[usable], probs[usable].astype(np.float32), tuple(kept))

    @classmethod
    def of_labels(
        cls, features: np.ndarray, labels: np.ndarray, num_classes: int, ids: Sequence[str] = ()
    ) -> "Bank":
        """A bank of features [B, D] and true classes [B]; rows of a negative class are left out."""
        probs = np.eye(num_classes, dtype=np.float32)[labels]
        probs[labels < 0] = np.nan
        return cls.of_probs(features, probs, ids)


def directions(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [N, D] scaled to length 1, float32, or 0 without a direction; which have one."""
    rows = np.ascontiguousarray(features, np.float64)
    length = np.sqrt((rows**2).sum(axis=1))
    usable = np.isfinite(length) & (length > 0)
    unit = np.where(usable[:, None], rows, 0) / np.where(usable, length, 1)[:, None]
    return unit.astype(np.float32), np.asarray(usable)


def neighbours(
    bank: Bank, features: np.ndarray, k: int, ids: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest bank rows, int64 [N, k], and their cosines, float32 [N, k]; nearest first.

    Of rows equally near those first in the bank are taken. With ``ids`` a row is no neighbour of
    its own. k is at most B; a place that no row can take has the cosine -inf.
    """
    k = min(k, len(bank.features))
    found = np.zeros((len(features), k), np.int64)
    cosines = np.full((len(features), k), -np.inf, np.float32)
    for at, block in _blocks(bank.features, features, _own_places(bank, ids)):
        near = block[: len(found[at])]
        found[at] = _largest(near, k)
        cosines[at] = np.take_along_axis(near, found[at], axis=1)
    return found, cosines


def smooth(
    bank: Bank,
    probs: np.ndarray,
    found: np.ndarray,
    cosines: np.ndarray,
    temperature: float | None = None,
) -> np.ndarray:
    """Mean probabilities of a row's neighbours, float64 [N, C]; its own [N, C] if it has none.

    ``found`` and ``cosines`` are :func:`neighbours`. With a temperature the mean is weighted by
    softmax(cosine / temperature), else plain. Source: Chen et al., AdaContrast, CVPR 2022,
    arXiv:2204.10377: the plain mean over ten, of which the row is one if the bank holds it.
    """
    near = np.asarray(cosines > -np.inf)
    scores = np.where(near, cosines, 0) / np.float64(np.inf if temperature is None else temperature)
    steps = np.where(near, scores - scores[:, :1], 0)  # from the nearest, which comes first
    weights: np.ndarray = near * np.exp(steps)
    some = np.asarray(near.any(axis=1))
    weights[some] /= weights[some].sum(axis=1, keepdims=True)
    mean = np.where(some[:, None], 0, probs.astype(np.float64))
    for place in range(found.shape[1]):
        mean += weights[:, place, None] * bank.probs[found[:, place]]
    return np.asarray(mean)


def memory_smooth(
    bank: Bank,
    features: np.ndarray,
    probs: np.ndarray,
    alpha: float = 0.9,
    temperature: float = 0.2,
    ids: Sequence[str] = (),
) -> np.ndarray:
    """Probabilities drawn to those of similar bank rows, float64 [N, C].

    alpha p + (1 - alpha) times the sum of softmax(cosine / temperature) p_b over the bank; a row
    that can be held against none keeps its p. Source: Li et al., CoMatch, ICCV 2021,
    arXiv:2011.11183, "memory-smoothed pseudo-labeling"; over labelled rows it is what Zheng et
    al., SimMatch, CVPR 2022, arXiv:2203.06915, call "aggregate".
    """
    mixed = probs.astype(np.float64)
    for at, block in _blocks(bank.features, features, _own_places(bank, ids)):
        if not len(bank.features):
            break
        top = block.max(axis=1, keepdims=True)
        some = top[:, 0] > -np.inf
        block -= np.where(some[:, None], top, 0)
        block /= np.float32(temperature)
        said = (np.exp(block, out=block) @ bank.probs).astype(np.float64)
        some, said = some[: len(mixed[at])], said[: len(mixed[at])]
        said = said[some] / said[some].sum(axis=1, keepdims=True)
        mixed[at][some] = alpha * mixed[at][some] + (1 - alpha) * said
    return mixed


def unfold(
    bank: Bank, features: np.ndarray, probs: np.ndarray, temperature: float = 0.1
) -> np.ndarray:
    """How alike rows are to bank rows, given their classes: float32 [N, B], rows sum to 1.

    Proportional to softmax(cosine / temperature) times the probability that both are of one class.
    A row that can be held against none, or that shares no class with any, has 0 everywhere.
    Source: Zheng et al., SimMatch, CVPR 2022, arXiv:2203.06915, "unfold".
    """
    found = np.zeros((len(features), len(bank.features)), np.float32)
    if not len(bank.features):
        return found
    for at, block in _blocks(bank.features, features, np.zeros(0, np.int64)):
        near = block[: len(found[at])].astype(np.float64)
        top = near.max(axis=1, keepdims=True)
        alike = np.exp((near - np.where(top > -np.inf, top, 0)) / temperature)
        alike *= probs[at].astype(np.float64) @ bank.probs.T.astype(np.float64)
        whole = alike.sum(axis=1, keepdims=True)
        some = np.asarray(whole[:, 0] > 0)
        found[at][some] = alike[some] / whole[some]
    return found


def prototypes(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    fallback: np.ndarray | None = None,
    trim: float = 0.0,
) -> np.ndarray:
    """Directions of the classes' mean features, float32 [C, D], from rows [N, D] of classes [N].

    A class without rows has that of ``fallback`` [C, D], or 0, which no row is ever near to. The
    share ``trim`` of a class's rows that is farthest from its mean is left out of a second mean.
    """
    found = _mean_directions(features, labels, num_classes, fallback)
    if not trim:
        return found
    near = cosines_to(found, features)[np.arange(len(labels)), labels]
    kept = labels.copy()
    for label in range(num_classes):
        mine = np.flatnonzero((labels == label) & (near > -np.inf))
        order = mine[np.argsort(near[mine], kind="stable")]
        kept[order[: int(trim * len(order))]] = -1
    return _mean_directions(features, kept, num_classes, fallback)


def _mean_directions(
    features: np.ndarray, labels: np.ndarray, num_classes: int, fallback: np.ndarray | None
) -> np.ndarray:
    """Directions of the classes' mean features, float32 [C, D]."""
    unit, usable = directions(features)
    usable = usable & (labels >= 0)
    sums = np.zeros((num_classes, features.shape[1]))
    np.add.at(sums, labels[usable], unit[usable])
    rows = np.bincount(labels[usable], minlength=num_classes)
    found, whole = directions(sums)
    whole = whole & (np.sqrt((sums**2).sum(axis=1)) >= LEAST_LENGTH * rows)
    other = np.zeros_like(found) if fallback is None else directions(fallback)[0]
    return np.where(whole[:, None], found, other)


def prototype_log_probs(
    features: np.ndarray, prototypes: np.ndarray, temperature: float
) -> np.ndarray:
    """Log softmax(cosine / temperature) over prototypes [C, D], float64 [N, C].

    A class whose prototype is 0 has -inf; a row without direction is equally likely of any class.
    """
    cosines = cosines_to(prototypes, features)
    unsure = ~(cosines > -np.inf).any(axis=1, keepdims=True)
    logits = np.where(unsure, 0, cosines / temperature)
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def class_margins(features: np.ndarray, prototypes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much nearer a row is to its class's prototype than to any other's, float64 [N].

    The cosine to the own prototype less the largest to another, in [-2, 2]; a prototype or a row
    of 0 counts as opposite. House rule after what Ali et al., PICS, arXiv:2507.22075, call in-class
    compactness and cross-class separation.
    """
    cosines = np.maximum(cosines_to(prototypes, features), -1)
    rows = np.arange(len(cosines))
    own = cosines[rows, labels]
    cosines[rows, labels] = -1
    return np.asarray(own - cosines.max(axis=1))


def blend(probs: np.ndarray, other: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """(1 - share) p + share q, float64 [N, C]; a share [C] is that of the most probable class in p.

    Source: a constant share as in Ali et al., DPA, WACV 2025, arXiv:2408.08855; one by class as in
    Oh et al., DASO, CVPR 2022, arXiv:2106.05682, with :func:`class_shares`.
    """
    by_class = np.broadcast_to(np.asarray(share, np.float64), probs.shape[1:])
    part = by_class[probs.argmax(axis=1)][:, None]
    return np.asarray((1 - part) * probs.astype(np.float64) + part * other.astype(np.float64))


def class_shares(rows: np.ndarray, temperature: float = 1.5) -> np.ndarray:
    """rows^(1 / temperature) over the largest, float64 [C], of pseudo-labelled rows by class.

    Source: DASO, arXiv:2106.05682: the more a class is predicted, the more of its rows' label is
    that of the prototypes.
    """
    largest = rows.max(initial=0)
    return np.asarray((rows / largest if largest else np.zeros(len(rows))) ** (1 / temperature))


def agreement(probs: np.ndarray, other: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Product of both sources' probabilities of a label over their largest ones, float64 [N].

    Source: the released code of DPA, arXiv:2408.08855.
    """
    rows = np.arange(len(labels))
    first, second = probs.astype(np.float64), other.astype(np.float64)
    top = first.max(axis=1) * second.max(axis=1)
    return np.asarray(first[rows, labels] * second[rows, labels] / top)


def cosines_to(prototypes: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Cosines float64 [N, C]; -inf where either has no direction."""
    unit, whole = directions(prototypes)
    cosines = np.empty((len(features), len(prototypes)))
    for at, block in _blocks(unit, features, np.full(len(features), -1)):
        cosines[at] = block[: len(cosines[at])]
    cosines[:, ~whole] = -np.inf
    return cosines


def _own_places(bank: Bank, ids: Sequence[str]) -> np.ndarray:
    """Where in the bank each row itself is, int64; -1 if it is not."""
    places = {name: place for place, name in enumerate(bank.ids)}
    return np.array([places.get(name, -1) for name in ids], np.int64)


def _blocks(
    unit: np.ndarray, features: np.ndarray, own: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Cosines of rows [N, D] to directions [B, D] by blocks of one shape, float32 [block, B].

    -inf where a row has no direction and at its ``own`` place.
    """
    size = min(1024, max(64, BLOCK_CELLS // max(1, len(unit)) // 64 * 64))
    for start in range(0, len(features), size):
        at = slice(start, start + size)
        rows, usable = directions(features[at])
        filled = np.zeros((size, unit.shape[1]), np.float32)
        filled[: len(rows)] = rows
        block = filled @ unit.T
        block[: len(rows)][~usable] = -np.inf
        if len(own):
            there = np.flatnonzero(own[at] >= 0)
            block[there, own[at][there]] = -np.inf
        yield at, block


def _largest(block: np.ndarray, k: int) -> np.ndarray:
    """Places of the k largest of each row, int64 [N, k], largest first; the first of equal ones."""
    width = block.shape[1]
    places = np.argpartition(block, width - k, axis=1)[:, width - k :] if 0 < k < width else None
    if places is None:
        return np.argsort(-block, axis=1, kind="stable")[:, :k]
    least = np.take_along_axis(block, places, axis=1).min(axis=1, keepdims=True)
    for row in np.flatnonzero((block >= least).sum(axis=1) > k):  # ties at the last place
        places[row] = np.argsort(-block[row], kind="stable")[:k]
    values = np.take_along_axis(block, places, axis=1)
    order = np.lexsort((places, -values), axis=1)
    return np.take_along_axis(places, order, axis=1)
