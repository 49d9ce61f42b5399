"""Filling up: rows that no class took go to classes that are short of rows.

A selector that takes k rows of each predicted class finds fewer where a class is seldom predicted.
The rows that are left are offered to such classes, in the order of the classes: each takes those in
which its own probability is highest, until it has k rows.

A filling is one cut a class, on keys of that class's probability, so it is applied row by row. To
find the cuts, blocks of classes look at the whole pool one after the other; of each block only rows
that may be taken are held, which bounds the memory of a process. Classes that are short of few rows
make one block; of many, a block each.

Source: the boards of Menghini et al., Enhancing CLIP with CLIP, NeurIPS 2023, arXiv:2306.01669, as
released. Departs from the paper: there a row falls to its next class when its board is full, which
depends on the order of the rows.

Legend: N rows, n candidates, B classes of a block, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainables.beliefs import Beliefs
from trainables.randomness import id_hash
from trainables.selectors.sketch import confidence_keys

NONE = int(np.iinfo(np.uint64).max)
"""The cut of a class that takes no row."""
MOST_KEYS = 1 << 22
"""Keys that the candidates of a block of several classes may have, 32 MiB."""


@dataclass(frozen=True)
class Filling:
    """Which rows that were left go to which class."""

    cuts: tuple[int, ...]
    """Least key of its probability with which a class takes a row, [C]."""
    rows: tuple[int, ...]
    """Rows that each class takes, [C]."""

    def classes(self, beliefs: Beliefs, free: np.ndarray, seed: int) -> np.ndarray:
        """The class that takes each ``free`` row (bool [N]), int64 [N]; -1 of the others."""
        found, at = np.full(len(beliefs), -1), np.flatnonzero(free)
        rows, taken = beliefs.taken(at), np.full(len(at), -1)
        short = [label for label, cut in enumerate(self.cuts) if cut != NONE]
        for label, keys in zip(short, _keys(rows, short, seed).T, strict=True):
            taken[(taken < 0) & (keys >= np.uint64(self.cuts[label]))] = label
        found[at] = taken
        return found


@dataclass(frozen=True)
class Block:
    """Classes that are filled from one look at the pool."""

    labels: tuple[int, ...]
    """In order [B]."""
    most: tuple[int, ...]
    """Rows of each that must be seen: what it and those before it take, [B]."""


def fill(needs: Sequence[int], look: Callable[[Filling, Block], np.ndarray]) -> Filling:
    """The filling that gives each class its ``needs`` rows [C], or as many as there are.

    ``look(known, block)`` tells the keys of the `candidates` of the whole pool that are free behind
    the filling ``known``, uint64 [n, B]; more than these are of no effect.
    """
    known = Filling((NONE,) * len(needs), (0,) * len(needs))
    short = [label for label, need in enumerate(needs) if need > 0]
    while short:
        block = _first_block(short, needs)
        keys = look(known, block)
        cuts, rows, free = list(known.cuts), list(known.rows), np.ones(len(keys), bool)
        for at, label in enumerate(block.labels):
            mine = np.sort(keys[free & (keys[:, at] > 0), at])[-needs[label] :]
            if len(mine):
                taken = free & (keys[:, at] >= mine[0])
                cuts[label], rows[label] = int(mine[0]), int(taken.sum())
                free &= ~taken
        known = replace(known, cuts=tuple(cuts), rows=tuple(rows))
        short = short[len(block.labels) :]
    return known


def _first_block(short: Sequence[int], needs: Sequence[int]) -> Block:
    """As many of the first classes as their candidates' keys fit into memory, at least one."""
    most: list[int] = []
    for label in short:
        more = [*most, needs[label] + (most[-1] if most else 0)]
        if most and sum(more) * len(more) > MOST_KEYS:
            break
        most = more
    return Block(tuple(short[: len(most)]), tuple(most))


def candidates(
    beliefs: Beliefs, free: np.ndarray, block: Block, least_confidence: float, seed: int
) -> np.ndarray:
    """Keys uint64 [n, B] of the free rows that a block may take; 0 of a class that may not.

    A class never takes a row of which its probability is 0, or below ``least_confidence``.
    """
    at = np.flatnonzero(free)
    rows = beliefs.taken(at)
    probs = _probs(rows, block.labels)
    allowed = (probs > 0) & (probs >= np.float64(least_confidence))
    keys = np.where(allowed, _keys(rows, block.labels, seed), np.uint64(0))
    return first_candidates(keys, block)


def first_candidates(keys: np.ndarray, block: Block) -> np.ndarray:
    """Those of the keys uint64 [n, B] that are among the highest that a class must see."""
    kept = np.zeros(len(keys), bool)
    for column, most in zip(keys.T, block.most, strict=True):
        if len(column) > most:
            least = np.partition(column, -most)[-most]
            kept |= (column >= least) & (column > 0)
        else:
            kept |= column > 0
    return np.asarray(keys[kept])


def _probs(beliefs: Beliefs, labels: Sequence[int]) -> np.ndarray:
    """Probabilities of some classes, float32 [N, B]."""
    probs = np.exp(beliefs.log_probs[:, list(labels)]).clip(0, 1)
    return np.asarray(probs.astype(np.float32))


def _keys(beliefs: Beliefs, labels: Sequence[int], seed: int) -> np.ndarray:
    """Keys of the probabilities of some classes, uint64 [N, B]; never coarse ones."""
    hashed = id_hash(seed, beliefs.example_ids).astype(np.uint64)
    return confidence_keys(_probs(beliefs, labels)) | hashed[:, None]
