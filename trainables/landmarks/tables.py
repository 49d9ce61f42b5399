"""The tables of landmarks: what a teacher believes about points, and which become pseudo-labels.

Points are in pixels of the stored image, 0 = centre of the first; NaN is unknown.

Legend: N rows, K points.
"""

import numpy as np
import pyarrow as pa

from trainables.landmarks.found import FoundPoints
from trainables.schemas import declared, need


def _floats(width: int) -> pa.DataType:
    return pa.list_(need("item", pa.float32()), width)


def point_predictions(num_points: int) -> pa.Schema:
    """What the teacher believes: one row for each pool example.

    ``label`` holds x0, y0, x1, ...; ``detection`` the same by the centre branch alone; ``peak``,
    ``spread`` (pixels), ``agreement`` and ``consistency`` one number for each point.
    """
    return declared(
        "point_predictions",
        need("example_id", pa.string()),
        need("label", _floats(2 * num_points)),
        need("confidence", pa.float32()),
        need("detection", _floats(2 * num_points)),
        need("peak", _floats(num_points)),
        need("spread", _floats(num_points)),
        need("agreement", _floats(num_points)),
        need("consistency", _floats(num_points)),
    )


def point_selection(num_points: int) -> pa.Schema:
    """Rows with an accepted point: ``target`` is NaN where none is, ``weights`` 0 there.

    ``weight`` is the mean over the row's accepted points.
    """
    return declared(
        "point_selection",
        need("example_id", pa.string()),
        need("target", _floats(2 * num_points)),
        need("weight", pa.float32()),
        need("weights", _floats(num_points)),
    )


def prediction_table(example_ids: list[str], found: FoundPoints, num_points: int) -> pa.Table:
    """Rows of the prediction table."""
    schema = point_predictions(num_points)
    peak = np.nan_to_num(found.peak)
    lists = {
        "label": found.points,
        "detection": found.detection,
        "peak": peak,
        "spread": found.spread,
        "agreement": found.agreement,
        "consistency": found.consistency,
    }
    columns = {
        "example_id": pa.array(example_ids, pa.string()),
        "confidence": pa.array(peak.mean(axis=1).astype(np.float32)),
    }
    for name, values in lists.items():
        flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, type=schema.field(name).type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def floats_of(table: pa.Table, name: str) -> np.ndarray:
    """A column of fixed-size lists as float32 [N, width]."""
    width = table.schema.field(name).type.list_size
    chunks = [c.flatten().to_numpy(zero_copy_only=False) for c in table[name].chunks]
    return np.concatenate(chunks or [np.zeros(0, np.float32)]).reshape(table.num_rows, width)


def pairs_of(table: pa.Table, name: str) -> np.ndarray:
    """A column of points as float32 [N, K, 2]."""
    flat = floats_of(table, name)
    return flat.reshape(len(flat), flat.shape[1] // 2, 2)
