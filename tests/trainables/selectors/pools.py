"""Selectors, pools of beliefs, and what one takes from them."""

from collections.abc import Sequence

import numpy as np
from hypothesis import settings

from trainables.beliefs import Beliefs
from trainables.selectors import sketch as sketches
from trainables.selectors.adaptive import (
    ClassRate,
    EqualRate,
    FlexThreshold,
    FreeThreshold,
    LossBound,
    MixtureThreshold,
    OutOfFoldPrecision,
    RelativeThreshold,
)
from trainables.selectors.fixed import (
    ClassShare,
    ClassTopK,
    EvenShare,
    Everything,
    Threshold,
    TopShare,
)
from trainables.selectors.library import Selector
from trainables.selectors.rules import Labelled, Rule
from trainables.selectors.sketch import sketch

QUICK = settings(deadline=None, derandomize=True, max_examples=40)
EVERY = (
    Everything(),
    Threshold(threshold=0.6),
    TopShare(share=0.3),
    TopShare(share=1.0),
    ClassShare(share=0.4),
    ClassShare(share=0.7, least_confidence=0.5),
    ClassTopK(k=3),
    ClassTopK(k=2, least_confidence=0.7),
    EvenShare(share=0.6),
    EvenShare(share=0.9, least_confidence=0.5),
    OutOfFoldPrecision(precision=0.7, least_support=2),
    FlexThreshold(threshold=0.8, floor=0.35),
    FreeThreshold(),
    FreeThreshold(quantile=0.4),
    RelativeThreshold(share=0.8),
    ClassRate(alpha=2),
    EqualRate(threshold=0.7),
    LossBound(),
    MixtureThreshold(least_rows=4, threshold=0.6),
)
"""Every selector that acts on the whole pool, with settings that take some rows and leave some."""
P = [
    [0.90, 0.06, 0.04],
    [0.70, 0.20, 0.10],
    [0.55, 0.40, 0.05],
    [0.10, 0.85, 0.05],
    [0.30, 0.60, 0.10],
    [0.34, 0.33, 0.33],
    [0.05, 0.15, 0.80],
    [0.46, 0.10, 0.44],
    [0.20, 0.10, 0.70],
    [0.96, 0.02, 0.02],
]


def of_probs(probs: Sequence[Sequence[float]], ids: Sequence[str] | None = None) -> Beliefs:
    table = np.array(probs, np.float32)
    names = list(ids) if ids is not None else [str(i) for i in range(len(table))]
    with np.errstate(divide="ignore"):
        return Beliefs(names, table.argmax(1), table.max(1), np.log(table))


def pool(seed: int, num: int, classes: int = 3, levels: int = 5) -> Beliefs:
    """A pool with many equal confidences: ``levels`` of them from just above 1 / C to 1."""
    stream = np.random.default_rng(seed)
    labels = stream.integers(0, classes, num)
    top = 1 / classes + 0.01 + (1 - 1 / classes - 0.01) * stream.integers(0, levels, num) / levels
    probs = np.repeat(((1 - top) / max(1, classes - 1))[:, None], classes, axis=1)
    probs[np.arange(num), labels] = top if classes > 1 else 1.0
    ids = [f"row-{i}" for i in range(num)]
    return of_probs(probs.reshape(num, classes).tolist() or np.zeros((0, classes)), ids)


def distinct(num: int, classes: int = 3, seed: int = 0) -> Beliefs:
    """A pool without equal confidences."""
    stream = np.random.default_rng(seed)
    top = stream.permutation(np.linspace(0.4, 0.99, num))
    labels = stream.integers(0, classes, num)
    probs = np.repeat(((1 - top) / (classes - 1))[:, None], classes, axis=1)
    probs[np.arange(num), labels] = top
    return of_probs(probs.tolist())


def part(beliefs: Beliefs, rows: Sequence[int] | np.ndarray) -> Beliefs:
    rows = np.asarray(rows, np.int64)
    return Beliefs(
        [beliefs.example_ids[i] for i in rows],
        beliefs.labels[rows],
        beliefs.confidence[rows],
        beliefs.log_probs[rows],
    )


def labelled(classes: int = 3) -> Labelled:
    beliefs = pool(99, 30, classes)
    truth = np.where(np.arange(30) % 4 == 0, (beliefs.labels + 1) % classes, beliefs.labels)
    return Labelled(np.bincount(truth, minlength=classes), beliefs, truth)


def fitted(
    selector: Selector, shards: Sequence[Beliefs], *, coarse: bool = False, seed: int = 0
) -> Rule:
    size = sketches.EXACT_ROWS + coarse
    whole, *others = [sketch(shard, pool_rows=size, seed=seed) for shard in shards]
    for other in others:
        whole = whole.merge(other)
    return selector.fit(whole, labelled(shards[0].num_classes), seed)


def chosen(selector: Selector, *shards: Beliefs, coarse: bool = False, seed: int = 0) -> set[str]:
    rule = fitted(selector, shards, coarse=coarse, seed=seed)
    return {shard.example_ids[i] for shard in shards for i in np.flatnonzero(rule.accepts(shard))}


def per_class(beliefs: Beliefs, ids: set[str]) -> list[int]:
    inside = np.array([i in ids for i in beliefs.example_ids], bool)
    return np.bincount(beliefs.labels[inside], minlength=beliefs.num_classes).tolist()
