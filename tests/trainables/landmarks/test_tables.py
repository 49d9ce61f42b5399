"""Tables of points: their columns, and what is unknown on the way through Arrow and Parquet."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.landmarks.elements import selected_rows
from trainables.landmarks.found import FoundPoints
from trainables.landmarks.tables import (
    floats_of,
    pairs_of,
    point_predictions,
    point_selection,
    prediction_table,
)
from trainables.schemas import SchemaError, conform

NAN = float("nan")
POINTS = np.array([[[1.5, 2.0], [NAN, NAN]], [[0, 0], [3, 4]]], np.float32)
PEAK = np.array([[0.5, 0.25], [1.0, NAN]], np.float32)


def table() -> pa.Table:
    told = FoundPoints(POINTS, POINTS + 1, PEAK, 2 * PEAK, PEAK, PEAK)
    return prediction_table(["a", "b"], told, 2)


def stored(content: pa.Table) -> pa.Table:
    """The table after it was written and read."""
    buffer = io.BytesIO()
    pq.write_table(content, buffer)
    return pq.read_table(pa.BufferReader(buffer.getvalue()))


def test_points_survive_the_table_and_its_file():
    for each in (table(), stored(table())):
        assert np.array_equal(pairs_of(each, "label"), POINTS, equal_nan=True)
        assert np.array_equal(pairs_of(each, "detection"), POINTS + 1, equal_nan=True)


def test_an_unknown_point_is_no_null_and_no_corner():
    read = stored(table())
    assert read["label"].null_count == 0
    assert np.isnan(pairs_of(read, "label")[0, 1]).all()
    assert pairs_of(read, "label")[1, 0].tolist() == [0, 0]


def test_a_rows_confidence_is_the_mean_of_its_peaks_and_a_missing_peak_is_0():
    assert table()["confidence"].to_pylist() == [0.375, 0.5]
    assert floats_of(table(), "peak").tolist() == [[0.5, 0.25], [1.0, 0.0]]


def test_a_part_of_a_table_has_the_points_of_its_rows():
    assert pairs_of(table()[1:], "label").tolist() == POINTS[1:].tolist()
    both = pa.concat_tables([table()[1:], table()])
    assert pairs_of(both, "label")[0].tolist() == POINTS[1].tolist()


@pytest.mark.parametrize("rows", [table()[:0], table().schema.empty_table()])
def test_a_table_without_rows_has_points_of_its_width(rows):
    assert pairs_of(rows, "label").shape == (0, 2, 2)
    assert floats_of(rows, "peak").shape == (0, 2)


def test_tables_conform_to_their_schemas_after_their_file():
    conform(stored(table()), point_predictions(2), "here")
    chosen = selected_rows(["a"], POINTS[:1], np.array([[1, 0]], np.float32), point_selection(2))
    conform(stored(chosen), point_selection(2), "here")


def test_a_table_of_other_points_does_not_conform():
    with pytest.raises(SchemaError, match="here: .*label is .*, must be .*6"):
        conform(table(), point_predictions(3), "here")
