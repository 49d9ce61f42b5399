import math

import numpy as np
import pyarrow as pa
import pytest

from trainables.schemas import (
    HIDDEN,
    REFUSED,
    SchemaError,
    conform,
    features,
    hidden,
    labelled,
    points,
    pool,
    predictions,
    selection,
)

ALL = {
    "pool": pool(),
    "labelled": labelled(),
    "pool of features": pool(features(2)),
    "pool of clips": pool(grouped=True),
    "labelled with points": labelled(label=points(2)),
    "labelled frames of clips": labelled(label=points(2), grouped=True),
    "hidden": HIDDEN,
    "hidden points": hidden(points(2)),
    "refused": REFUSED,
    "predictions": predictions(3),
    "hard selection": selection(3, soft=False),
    "soft selection": selection(3, soft=True),
}
VALUES = {
    "example_id": ["a", "b"],
    "image": [b"1", b"2"],
    "features": np.array([[0.5, -1], [2, 0]], np.float16).tolist(),
    "label": [0, 2],
    "points": [[0.5, 1, 2, 3], [-1, 7.25, 4, 4]],
    "group": ["a", "b"],
    "order": [3, 0],
    "origin": ["x", "y"],
    "reason": ["why", "why"],
    "confidence": [0.5, 0.9],
    "log_probs": [[-0.5, -1.0, -2.0], [-0.1, -3.0, -math.inf]],
    "weight": [1.0, 0.25],
}
every_schema = pytest.mark.parametrize("schema", ALL.values(), ids=ALL.keys())


def loose(schema: pa.Schema, **changed: pa.Array) -> pa.Table:
    """A table with the right types, no metadata and nullable fields."""
    columns = {}
    for field in schema:
        if field.name == "target":
            soft = pa.types.is_fixed_size_list(field.type)
            values = [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]] if soft else [1, 2]
        elif field.name == "label" and pa.types.is_fixed_size_list(field.type):
            values = VALUES["points"]
        else:
            values = VALUES[field.name]
        kind = field.type
        if pa.types.is_fixed_size_list(kind):
            kind = pa.list_(kind.value_type, kind.list_size)
        columns[field.name] = pa.array(values, kind)
    return pa.table(columns | changed)


@every_schema
def test_the_right_columns_in_any_order_become_exactly_the_schema(schema):
    table = loose(schema)
    found = conform(table.select(table.column_names[::-1]), schema, "here")
    assert found.schema.equals(schema, check_metadata=True)
    for name in schema.names:
        assert found[name].to_pylist() == table[name].to_pylist()


@every_schema
def test_a_table_that_conforms_is_left_alone(schema):
    once = conform(loose(schema), schema, "here")
    assert conform(once, schema, "here").equals(once, check_metadata=True)


@every_schema
def test_a_table_of_no_rows_conforms(schema):
    found = conform(loose(schema).slice(0, 0), schema, "here")
    assert found.num_rows == 0
    assert found.schema.equals(schema, check_metadata=True)


@every_schema
def test_slices_and_chunks_keep_their_own_rows(schema):
    table = loose(schema)
    parts = pa.concat_tables([table.slice(1), table.slice(0, 1)])
    found = conform(parts, schema, "here")
    assert found.column(0).num_chunks == 2
    assert found.to_pylist() == table.to_pylist()[::-1]


def test_every_fault_is_named_at_once():
    schema = predictions(3)
    table = loose(
        schema,
        label=pa.array([0, 1], pa.int64()),
        confidence=pa.array([0.1, None], pa.float32()),
        colour=pa.array(["red", "blue"]),
    ).drop_columns(["example_id"])
    with pytest.raises(SchemaError) as caught:
        conform(table, schema, "predictions/0007.parquet")
    assert str(caught.value) == (
        "predictions/0007.parquet: missing example_id: string; "
        "label is int64, must be int32; confidence holds 1 nulls; surplus colour: string"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("column", "schema"), [("confidence", predictions(3)), ("weight", selection(3, soft=False))]
)
def test_a_confidence_or_weight_that_is_no_number_is_refused(column, schema, value):
    table = loose(schema, **{column: pa.array([0.5, value], pa.float32())})
    with pytest.raises(SchemaError, match=f"{column} holds values that are not finite"):
        conform(table, schema, "here")


@every_schema
def test_nulls_are_refused_in_every_column(schema):
    for field in schema:
        kind = loose(schema)[field.name].type
        table = loose(schema, **{field.name: pa.nulls(2, kind)})
        with pytest.raises(SchemaError, match=f"{field.name} holds 2 nulls"):
            conform(table, schema, "here")


def test_nulls_inside_a_list_are_refused():
    kind = pa.list_(pa.float32(), 3)
    table = loose(predictions(3), log_probs=pa.array([[-1, None, -1], [-1, -1, None]], kind))
    with pytest.raises(SchemaError, match="log_probs holds 2 nulls"):
        conform(table, predictions(3), "here")


def test_points_may_be_unknown_but_not_null():
    schema, kind = labelled(label=points(1)), pa.list_(pa.float32(), 2)
    image, name = pa.array([b"1"]), pa.array(["a"])

    def table(x: float | None) -> pa.Table:
        return pa.table({"example_id": name, "image": image, "label": pa.array([[x, 1.0]], kind)})

    found = conform(table(math.nan), schema, "here")["label"].to_pylist()
    assert math.isnan(found[0][0]) and found[0][1] == 1
    with pytest.raises(SchemaError, match="label holds 1 nulls"):
        conform(table(None), schema, "here")


def test_tables_of_clips_and_of_rows_alone_do_not_stand_for_each_other():
    with pytest.raises(SchemaError, match="missing group: string; missing order: int32"):
        conform(loose(pool()), pool(grouped=True), "here")
    with pytest.raises(SchemaError, match="surplus group: string; surplus order: int32"):
        conform(loose(pool(grouped=True)), pool(), "here")


def test_another_number_of_points_or_classes_in_their_place_are_refused():
    for other in (labelled(label=points(3)), labelled()):
        with pytest.raises(SchemaError, match="label is .*must be"):
            conform(loose(labelled(label=points(2))), other, "here")


def test_another_number_of_classes_is_refused():
    with pytest.raises(SchemaError, match="log_probs is .*must be"):
        conform(loose(predictions(3)), predictions(4), "here")


def test_types_are_never_converted():
    half = pa.array(VALUES["log_probs"], pa.list_(pa.float16(), 3))
    with pytest.raises(SchemaError, match="log_probs is"):
        conform(loose(predictions(3), log_probs=half), predictions(3), "here")
    with pytest.raises(SchemaError, match="target is int32"):
        conform(loose(selection(3, soft=False)), selection(3, soft=True), "here")


def test_a_column_that_comes_twice_is_a_fault():
    table = pa.table(
        [pa.array(["a"]), pa.array([1], pa.int32()), pa.array([2], pa.int32())],
        names=["example_id", "label", "label"],
    )
    with pytest.raises(SchemaError, match="label comes 2 times"):
        conform(table, HIDDEN, "here")
