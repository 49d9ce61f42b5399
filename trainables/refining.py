"""Refinements: how the beliefs about a step's pool rows follow from rows near to them.

A refinement comes behind the calibrators and before the selector.

Legend: b rows of this worker, E features of the embedding, C classes.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainables.beliefs import Beliefs
from trainables.kept_rows import Kept, LabelledRows
from trainables.neighbours import (
    Bank,
    blend,
    class_shares,
    memory_smooth,
    neighbours,
    prototype_log_probs,
    prototypes,
    smooth,
)
from trainables.schedules import Bounds, Scalar, number
from trainables.spec import Spec

Share = Annotated[Scalar, Bounds(low=0, high=1, over=("rounds", "steps"))]
Temper = Annotated[float, Field(gt=0, le=10)]


class OverMemory(Spec):
    """Beliefs drawn to those of all kept rows, the more alike the more.

    Over labelled rows this is "aggregate" of Zheng et al., SimMatch, CVPR 2022, arXiv:2203.06915;
    over the latest pool rows it is the memory smoothing of Li et al., CoMatch, ICCV 2021,
    arXiv:2011.11183.
    """

    kind: Literal["over_memory"] = "over_memory"
    keeps: ClassVar[Kept] = None
    own: Share = 0.9
    """Share of a row's own beliefs in what it is given."""
    temperature: Temper = 0.1
    """Kept rows count by softmax(cosine / temperature)."""

    def probs(
        self, probs: np.ndarray, features: np.ndarray, bank: Bank, shares: np.ndarray
    ) -> np.ndarray:
        """Refined probabilities [b, C] of rows [b, C] with embeddings [b, E]."""
        del shares
        return memory_smooth(bank, features, probs, number(self.own), self.temperature)


class NearestRows(Spec):
    """The mean belief of the nearest kept rows.

    Source: Chen et al., AdaContrast, CVPR 2022, arXiv:2204.10377.
    """

    kind: Literal["nearest"] = "nearest"
    keeps: ClassVar[Kept] = None
    rows: Annotated[int, Field(ge=1, le=1000)] = 10
    """Rows that the mean is over."""

    def probs(
        self, probs: np.ndarray, features: np.ndarray, bank: Bank, shares: np.ndarray
    ) -> np.ndarray:
        """Refined probabilities [b, C] of rows [b, C] with embeddings [b, E]."""
        del shares
        return smooth(bank, probs, *neighbours(bank, features, self.rows))


class PrototypeBlend(Spec):
    """Beliefs blended with the likeness to class means of labelled rows, the more in large classes.

    Source: Oh et al., DASO, CVPR 2022, arXiv:2106.05682: the share of the likeness
    grows with how often the class is predicted.
    """

    kind: Literal["prototypes"] = "prototypes"
    keeps: ClassVar[Kept] = LabelledRows
    temperature: Temper = 0.05
    """Likeness is softmax(cosine / temperature) over the classes' means."""
    spread: Temper = 1.5
    """The larger, the more alike are the shares of common and of rare classes."""
    strength: Share = 1.0
    """Factor of those shares; a schedule lets the blend begin later."""

    def probs(
        self, probs: np.ndarray, features: np.ndarray, bank: Bank, shares: np.ndarray
    ) -> np.ndarray:
        """Refined probabilities [b, C] of rows [b, C] with embeddings [b, E].

        ``shares`` [C] is how often each class was predicted so far.
        """
        means = class_means(bank)
        likeness = np.exp(prototype_log_probs(features, means, self.temperature))
        return blend(probs, likeness, number(self.strength) * class_shares(shares, self.spread))


Refinement = Annotated[OverMemory | NearestRows | PrototypeBlend, Field(discriminator="kind")]


def refined(
    by: OverMemory | NearestRows | PrototypeBlend,
    beliefs: Beliefs,
    features: np.ndarray,
    bank: Bank,
    shares: np.ndarray,
) -> Beliefs:
    """Beliefs [b, C] behind a refinement; rows whose predictions are not numbers stay so."""
    usable = beliefs.usable()
    found = beliefs.log_probs.copy()
    with np.errstate(divide="ignore"):
        probs = np.exp(beliefs.log_probs[usable].astype(np.float64))
        found[usable] = np.log(by.probs(probs, features[usable], bank, shares))
    return Beliefs.of_log_probs(beliefs.example_ids, found)


def class_means(bank: Bank) -> np.ndarray:
    """Directions of the means of a bank's rows by their most probable class, float32 [C, E]."""
    return prototypes(bank.features, bank.probs.argmax(axis=1), bank.probs.shape[1])
