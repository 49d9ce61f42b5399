"""What a teacher believes about a block of pool rows, as arrays.

Legend: N rows, C classes, D features.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

DOUBT = ("agreement", "spread", "margin")
"""Columns that a prediction table of several sources has beside the others."""


@dataclass(frozen=True)
class Doubt:
    """How far several label sources, or passes of one, are apart about a block of rows."""

    agreement: np.ndarray
    """Share of the sources that predict the combined label, float32 [N]."""
    spread: np.ndarray
    """Standard deviation over the sources of that label's probability, float32 [N]."""
    margin: np.ndarray
    """Welch's t of the two best classes less its critical value, float32 [N]."""


@dataclass(frozen=True)
class Beliefs:
    """A block of the prediction table."""

    example_ids: list[str]
    """Ids [N]."""
    labels: np.ndarray
    """Most probable classes, int64 [N]; the lowest class on ties."""
    confidence: np.ndarray
    """Probabilities of those classes, float32 [N]."""
    log_probs: np.ndarray
    """Log-probabilities, float32 [N, C]."""
    doubt: Doubt | None = None
    """What the sources disagree about, where several labelled."""
    eligible: np.ndarray | None = None
    """Rows that passed the filters, bool [N]; None if there are none."""
    features: np.ndarray | None = None
    """Where rows lie in the feature space of the network that labelled them: float16 [N, D] of
    length 1, or 0 for a row without direction; None where nothing reads them."""

    def __len__(self) -> int:
        return len(self.example_ids)

    @property
    def num_classes(self) -> int:
        return int(self.log_probs.shape[1])

    @property
    def num_features(self) -> int:
        """Features of a row; 0 if there are none."""
        return 0 if self.features is None else int(self.features.shape[1])

    def taken(self, at: np.ndarray) -> "Beliefs":
        """The rows at these places [n]."""
        doubt = self.doubt
        return Beliefs(
            [self.example_ids[i] for i in at.tolist()],
            self.labels[at],
            self.confidence[at],
            self.log_probs[at],
            doubt and Doubt(doubt.agreement[at], doubt.spread[at], doubt.margin[at]),
            eligible=None if self.eligible is None else self.eligible[at],
            features=None if self.features is None else self.features[at],
        )

    def moved(self, labels: np.ndarray, at: np.ndarray) -> "Beliefs":
        """The same rows, of which those at these places [n] stand for these classes [n]."""
        if not len(at):
            return self
        whole, confidence = self.labels.copy(), self.confidence.copy()
        whole[at] = labels
        confidence[at] = np.exp(self.log_probs[at, labels]).clip(0, 1)
        return replace(self, labels=whole, confidence=confidence)

    def first(self, most: int) -> "Beliefs":
        """At most so many rows, the first ones; of a sample they are a sample."""
        return self if len(self) <= most else self.taken(np.arange(most))

    def located(self) -> np.ndarray:
        """Features of the rows, float16 [N, D].

        Raises:
            ValueError: The table holds none.
        """
        if self.features is None:
            raise ValueError("the prediction table holds no features")
        return self.features

    @classmethod
    def of_log_probs(cls, example_ids: list[str], log_probs: np.ndarray) -> "Beliefs":
        """Beliefs from log-probabilities float32 [N, C]."""
        labels = log_probs.argmax(axis=1)
        top = log_probs[np.arange(len(labels)), labels]
        confidence = np.exp(top).clip(0, 1).astype(np.float32)
        return cls(example_ids, labels.astype(np.int64), confidence, log_probs)

    @classmethod
    def of_table(cls, table: pa.Table) -> "Beliefs":
        """Beliefs from rows of the prediction table."""
        table = table.combine_chunks()
        features, doubt = None, None
        if "features" in table.column_names:
            features = _lists(table, "features", np.dtype(np.float16))
        if "agreement" in table.column_names:
            doubt = Doubt(*(table[name].to_numpy() for name in DOUBT))
        return cls(
            table["example_id"].to_pylist(),
            table["label"].to_numpy().astype(np.int64),
            table["confidence"].to_numpy(),
            _lists(table, "log_probs", np.dtype(np.float32)),
            doubt,
            features=features,
        )

    def to_table(self, schema: pa.Schema) -> pa.Table:
        """Rows of the prediction table."""
        columns = {
            "example_id": pa.array(self.example_ids, pa.string()),
            "label": pa.array(self.labels.astype(np.int32)),
            "confidence": pa.array(self.confidence),
            "log_probs": pa.FixedSizeListArray.from_arrays(
                pa.array(self.log_probs.ravel()), type=schema.field("log_probs").type
            ),
        }
        if self.doubt is not None:
            columns |= {name: pa.array(getattr(self.doubt, name)) for name in DOUBT}
        if self.features is not None:
            columns["features"] = pa.FixedSizeListArray.from_arrays(
                pa.array(self.features.ravel()), type=schema.field("features").type
            )
        return pa.table(columns, schema=schema)

    def usable(self) -> np.ndarray:
        """Rows of finite-or-minus-infinite numbers that passed the filters, bool [N].

        The rest never count.
        """
        numbers = (self.log_probs < np.inf).all(axis=1)
        return np.asarray(numbers if self.eligible is None else numbers & self.eligible)


def _lists(table: pa.Table, name: str, kind: np.dtype[Any]) -> np.ndarray:
    """A column of fixed-size lists as an array [N, width]."""
    width = table.schema.field(name).type.list_size
    chunks = [c.flatten().to_numpy(zero_copy_only=False) for c in table[name].chunks]
    return np.concatenate(chunks or [np.zeros(0, kind)]).reshape(-1, width)
