"""What a task says of predictions and selections, as plain arrays.

Legend: n elements.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Accepted:
    """Elements that a selection holds."""

    names: np.ndarray
    """Class or point that each one stands for, int64 [n]."""
    weights: np.ndarray
    """How much each counts, float64 [n] in (0, 1]."""
    confidence: np.ndarray
    """How sure the teacher was of it, float64 [n] in [0, 1]; NaN of a row that was kept from an
    earlier selection and is refused now."""


@dataclass(frozen=True)
class Judged:
    """Accepted elements whose truth is known."""

    names: np.ndarray
    """Class or point that each one stands for, int64 [n]."""
    right: np.ndarray
    """Whether it is right, bool [n]."""


@dataclass(frozen=True)
class Changed:
    """How two prediction tables of the same rows differ."""

    compared: int
    """Elements that both tell."""
    changed: int
    """Those of them that they tell otherwise."""


@dataclass(frozen=True)
class Shown:
    """What is known of one row that is drawn; each table holds that row or none."""

    told: pa.Table
    """The row of the prediction table."""
    chosen: pa.Table
    """The row of the selection."""
    truth: pa.Table | None
    """The row of the hidden labels, where there are any."""


def row_of(table: pa.Table, example_id: str) -> pa.Table:
    """The table's row of this id, or none."""
    return table.filter(pc.equal(table["example_id"], example_id))


def left_out(name: str, beside: np.ndarray) -> str:
    """What became of an element that was not accepted, beside the confidences of those that were.

    ``beside`` holds those of its name and fragment, [n].
    """
    if not len(beside):
        return f"left out; no '{name}' of its fragment was accepted"
    return f"left out; the least sure accepted '{name}' of its fragment has {beside.min():.3f}"
