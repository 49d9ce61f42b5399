"""Rows that a training step keeps, to hold the pool rows of later steps against.

Legend: N labelled rows, B rows of the global batch, M rows that are kept, E features of the
embedding, C classes.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from trainables.neighbours import Bank, directions
from trainables.spec import Spec


class LabelledRows(Spec):
    """Every labelled row that was drawn so far, with its label and its newest embedding.

    A step's own labelled rows are taken in before its pool rows are held against them.
    """

    kind: Literal["labelled"] = "labelled"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Weight of a row's old embedding each time that it is drawn; 0 keeps the newest alone."""


class LatestRows(Spec):
    """The pool rows of the last steps, with what the labelling network believed about them.

    A step's own pool rows are taken in after they were held against those before. Beliefs are kept
    as calibrated and not refined, so that no neighbour's word counts twice.
    """

    kind: Literal["latest"] = "latest"
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 800
    """Most rows that are kept; the oldest go first."""
    labelled: bool = True
    """Keep the labelled rows of each batch as well, with their labels."""


Kept = type[LabelledRows] | type[LatestRows] | None
"""Kind of kept rows that something reads; None for either."""


class EmbeddingSpec(Spec):
    """The space in which rows are held against each other, and the rows that are kept in it."""

    width: Annotated[int, Field(ge=0, le=4096)] = 64
    """Features behind a head of two layers, which trains with the student and is never delivered;
    0 takes the student's own features."""
    keep: Annotated[LabelledRows | LatestRows, Field(discriminator="kind")] = LabelledRows()
    """Rows that are kept."""

    @property
    def keeps_labelled(self) -> bool:
        """Whether labelled rows are kept."""
        return isinstance(self.keep, LabelledRows) or self.keep.labelled


class KeptRows:
    """The kept rows of one fit; every worker keeps those of all."""

    def __init__(self, spec: EmbeddingSpec, num_classes: int, width: int) -> None:
        """No row yet; ``width`` is E."""
        self._keep, self._num_classes = spec.keep, num_classes
        self._features = np.zeros((0, width), np.float32)
        self._probs = np.zeros((0, num_classes), np.float32)

    def see_labelled(
        self, places: np.ndarray, labels: np.ndarray, features: np.ndarray, num_rows: int
    ) -> None:
        """Take in labelled rows [B] with embeddings [B, E], from these places of ``num_rows``.

        Of a row that was drawn twice the last view counts.
        """
        told = np.eye(self._num_classes, dtype=np.float32)[labels]
        if isinstance(self._keep, LatestRows):
            if self._keep.labelled:
                self._append(self._keep.rows, features, told)
            return
        if not len(self._features):
            self._features = np.zeros((num_rows, features.shape[1]), np.float32)
            self._probs = np.zeros((num_rows, self._num_classes), np.float32)
        decay = np.float32(self._keep.decay)
        unit, usable = directions(features)
        at = places[usable]
        self._features[at] = directions(decay * self._features[at] + (1 - decay) * unit[usable])[0]
        self._probs[at] = told[usable]

    def see_pool(self, features: np.ndarray, probs: np.ndarray) -> None:
        """Take in pool rows with embeddings [B, E] and probabilities [B, C], if any are kept."""
        if isinstance(self._keep, LatestRows):
            self._append(self._keep.rows, features, probs)

    def bank(self) -> Bank:
        """The rows that are kept; those without a direction are left out."""
        return Bank.of_probs(self._features, self._probs)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a checkpoint must hold, by name."""
        return {"features": self._features, "probs": self._probs}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        self._features, self._probs = arrays["features"].copy(), arrays["probs"].copy()

    def _append(self, most: int, features: np.ndarray, probs: np.ndarray) -> None:
        self._features = np.concatenate([self._features, features.astype(np.float32)])[-most:]
        self._probs = np.concatenate([self._probs, probs.astype(np.float32)])[-most:]
