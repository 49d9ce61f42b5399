"""A small network that tells how right a label of a row is expected to be.

It sees how probable the label is and how near its class is, each beside the best other class, and
which label it is. None of this depends on the axes of a feature space, so a reward that was learnt
on rows of one network holds for those of another that was trained alike: labelled rows are told by
fold students, pool rows by the student of all labels. Each row is judged on its own.

Legend: N rows, Q pairs of a row and a label, C classes, D features, H hidden numbers.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import expit

from trainables.beliefs import Beliefs
from trainables.neighbours import cosines_to
from trainables.randomness import numpy_stream

RIGHT, WRONG = 1.0, 0.5
"""Targets: (1 + cosine of the one-hot labels) / 2."""
WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class Pairs:
    """Rows with a label each, and how right it is."""

    views: np.ndarray
    """Probability and cosine of the label and of the best other class, float64 [Q, 4]."""
    labels: np.ndarray
    """Labels, int64 [Q]."""
    targets: np.ndarray
    """How right they are, float64 [Q]."""


@dataclass(frozen=True)
class Reward:
    """sigmoid(v tanh(W (view - mean) / deviation + embedding of the label) + c)."""

    anchors: np.ndarray
    """Directions of the classes for the network that labels the pool, float32 [C, D]."""
    mean: np.ndarray
    """Of the views, float64 [4]."""
    deviation: np.ndarray
    """Of the views, float64 [4], above 0."""
    inner: np.ndarray
    """W, float64 [4, H]."""
    embedding: np.ndarray
    """Of the labels, float64 [C, H]."""
    outer: np.ndarray
    """v, float64 [H]."""
    offset: float
    """c."""
    least: float = 0.0
    """Least accepted reward."""

    def of(self, rows: Beliefs) -> np.ndarray:
        """Rewards float32 [N] in [0, 1] of rows with their labels."""
        near = np.maximum(cosines_to(self.anchors, rows.located()), -1)
        probs = np.exp(rows.log_probs.astype(np.float64))
        views = (views_of(probs, near, rows.labels) - self.mean) / self.deviation
        inside = self.embedding[rows.labels]
        for j in range(views.shape[1]):  # no matrix product, whose last bits depend on N
            inside = inside + views[:, j, None] * self.inner[j]
        told = (np.tanh(inside) * self.outer).sum(axis=1) + self.offset
        return np.asarray(expit(told).astype(np.float32))

    def accepts(self, beliefs: Beliefs) -> np.ndarray:
        """Which rows have the least reward, bool [N]; never a row of NaN."""
        return np.asarray(self.of(beliefs) >= np.float32(self.least))

    def bounded(self, sample: Beliefs, drop: float | None) -> "Reward":
        """The reward with a bound: that share of a sample is below it, or what is below its mean.

        A bound that no row reaches, since all are equal, is the least reward.
        """
        found = self.of(sample).astype(np.float64)
        found = found[sample.usable() & np.isfinite(found)]
        if not len(found):
            return self
        least = found.mean() if drop is None else np.quantile(found, drop)
        return replace(self, least=float(min(least, found.max())))


def views_of(probs: np.ndarray, cosines: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability and cosine [N, C] of a label and of the best other class, float64 [N, 4]."""
    rows, found = np.arange(len(labels)), []
    for values in (probs, cosines):
        others = values.astype(np.float64)
        own = others[rows, labels]
        others[rows, labels] = -np.inf
        found += [own, others.max(axis=1)]
    return np.stack(found, axis=1)


def pairs_of(
    told: Beliefs, cosines: np.ndarray, truth: np.ndarray, wrong: int, *, seed: int
) -> Pairs:
    """Labelled rows with their true label, their predicted one where it errs, and drawn wrong ones.

    ``wrong`` labels a row are drawn with its out-of-fold probabilities, without the true one. Rows
    of NaN are left out.
    """
    good = np.flatnonzero(told.usable() & np.isfinite(cosines).all(axis=1))
    probs = np.exp(told.log_probs[good].astype(np.float64))
    truth, cosines = truth[good], cosines[good]
    rows = np.arange(len(good))
    missed = np.flatnonzero(told.labels[good] != truth)
    others = probs.copy()
    others[rows, truth] = 0
    empty = others.sum(axis=1) <= 0
    others[empty] = 1.0
    others[rows, truth] = 0
    ends = (others / others.sum(axis=1, keepdims=True)).cumsum(axis=1)
    lots = numpy_stream(seed, "lots").random((wrong, len(good), 1))
    drawn = np.minimum((ends < lots).sum(axis=2), _last(others))
    at = np.concatenate([rows, missed, *([rows] * wrong)])
    labels = np.concatenate([truth, told.labels[good][missed], drawn.ravel()])
    targets = np.full(len(at), WRONG)
    targets[: len(rows)] = RIGHT
    return Pairs(views_of(probs[at], cosines[at], labels), labels, targets)


def _last(others: np.ndarray) -> np.ndarray:
    """The last class of each row that can be drawn, int64 [N]."""
    return np.asarray(others.shape[1] - 1 - (others[:, ::-1] > 0).argmax(axis=1))


def fit_reward(
    pairs: Pairs,
    anchors: np.ndarray,
    *,
    hidden: int,
    steps: int,
    learning_rate: float,
    seed: int,
) -> Reward:
    """The reward whose mean squared error over the pairs is small; anchors [C, D].

    Source: house network after Li et al., SemiReward, ICLR 2024, arXiv:2310.03013. Departs from the
    paper: no features enter but what they say of the classes; wrong labels are drawn, not
    generated; one stage; no attention, whose score of a row depended on its batch.
    """
    if not len(pairs.labels):
        raise ValueError("selector reward has no labelled row to learn from")
    views = pairs.views
    mean, deviation = views.mean(axis=0), np.maximum(views.std(axis=0), 1e-3)
    stream = numpy_stream(seed, "weights")
    shapes = ((views.shape[1], hidden), (len(anchors), hidden), (hidden,), ())
    parts = [
        torch.tensor(stream.normal(size=shape) * 0.3, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]
    inner, embedding, outer, offset = parts
    x = torch.from_numpy((views - mean) / deviation)
    y, goal = torch.from_numpy(pairs.labels), torch.from_numpy(pairs.targets)
    adam = torch.optim.AdamW(parts, lr=learning_rate, weight_decay=WEIGHT_DECAY)
    with torch.enable_grad():
        for _ in range(steps):
            adam.zero_grad()
            told = torch.tanh(x @ inner + embedding[y]) @ outer + offset
            ((torch.sigmoid(told) - goal) ** 2).mean().backward()  # type: ignore[no-untyped-call] # torch
            adam.step()
    w, e, v, c = (part.detach().numpy() for part in parts)
    return Reward(anchors, mean, deviation, w, e, v, float(c))
