"""Points of the prediction table as the elements that selectors choose from, and back.

An element is one point of one row. To a selector it is a row whose class is the point's name, so
every selector that reads no more than class and confidence serves landmarks as it is.

Legend: N rows, K points, E = N * K elements, row after row.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

from trainables.beliefs import Beliefs
from trainables.landmarks.tables import floats_of, pairs_of

PointRanking = Literal["peak", "spread", "agreement", "consistency"]


def elements(table: pa.Table, ranking: PointRanking) -> Beliefs:
    """What the table says of each point: name, confidence in [0, 1], whether it was found [E].

    ``spread`` is turned into a confidence by 1 / (1 + pixels).
    """
    points = pairs_of(table, "label")
    num = points.shape[1]
    told = floats_of(table, ranking)
    confidence = 1 / (1 + told) if ranking == "spread" else told
    found = np.isfinite(points).all(axis=2) & np.isfinite(confidence)
    names = np.tile(np.arange(num), table.num_rows)
    ids = [f"{name}/{k}" for name in table["example_id"].to_pylist() for k in range(num)]
    sure = np.where(found, confidence, 0).clip(0, 1).astype(np.float32).ravel()
    nothing = np.zeros((len(ids), 0), np.float32)  # a point has no distribution over names
    return Beliefs(ids, names, sure, nothing, eligible=found.ravel())


def chosen(
    table: pa.Table, accepted: np.ndarray, weights: np.ndarray, schema: pa.Schema
) -> pa.Table:
    """Rows of the selection: those with an accepted element, the others' points unknown.

    ``accepted`` is bool [E] and ``weights`` float32 [E].
    """
    points = pairs_of(table, "label")
    taken = accepted.reshape(points.shape[:2])
    weight = np.where(taken, weights.reshape(taken.shape), 0).astype(np.float32)
    rows = np.flatnonzero(taken.any(axis=1))
    target = np.where(taken[..., None], points, np.nan).astype(np.float32)
    return selected_rows(
        [table["example_id"][i].as_py() for i in rows.tolist()], target[rows], weight[rows], schema
    )


def selected_rows(
    example_ids: list[str], target: np.ndarray, weights: np.ndarray, schema: pa.Schema
) -> pa.Table:
    """A selection of points float32 [N, K, 2] (NaN: unknown) with weights float32 [N, K]."""
    known = np.maximum(1, (weights > 0).sum(axis=1))
    lists = {"target": target, "weights": weights}
    columns = {
        "example_id": pa.array(example_ids, pa.string()),
        "weight": pa.array((weights.sum(axis=1) / known).astype(np.float32)),
    }
    for name, values in lists.items():
        flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, type=schema.field(name).type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def merged(kept: pa.Table, new: pa.Table, schema: pa.Schema) -> pa.Table:
    """A label bank: what was kept before stays, new points join where none was known."""
    bank = _by_id(kept)
    for name, (target, weights) in _by_id(new).items():
        if name not in bank:
            bank[name] = (target, weights)
            continue
        old_target, old_weights = bank[name]
        unknown = old_weights == 0
        bank[name] = (
            np.where(unknown[:, None], target, old_target),
            np.where(unknown, weights, old_weights),
        )
    ids = sorted(bank)
    num = schema.field("weights").type.list_size
    targets = np.array([bank[i][0] for i in ids], np.float32).reshape(-1, num, 2)
    weights = np.array([bank[i][1] for i in ids], np.float32).reshape(-1, num)
    return selected_rows(ids, targets, weights, schema)


def _by_id(table: pa.Table) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    targets = pairs_of(table, "target")
    weights = floats_of(table, "weights")
    ids = table["example_id"].to_pylist()
    return {name: (t, w) for name, t, w in zip(ids, targets, weights, strict=True)}
