"""The Arrow tables that cross a process: declared once, checked at every door.

Legend: K points.
"""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

VERSION = 1


class SchemaError(ValueError):
    """A table does not have its declared columns; every fault is named at once."""


def declared(name: str, *fields: pa.Field) -> pa.Schema:
    """The schema of a table that crosses a process, with its name and version."""
    return pa.schema(fields, metadata={"table": f"{name}/{VERSION}"})


def need(name: str, kind: pa.DataType) -> pa.Field:
    """A column without nulls."""
    return pa.field(name, kind, nullable=False)


IMAGE = need("image", pa.binary())
"""An encoded image."""


def features(width: int) -> pa.Field:
    """What a frozen network makes of an image, float16 [width], in the place of the image."""
    return need("features", pa.list_(need("item", pa.float16()), width))


CLASS = need("label", pa.int32())
"""The class of a row."""


def points(num_points: int) -> pa.Field:
    """The points of a row, float32 [2K]: x0, y0, x1, y1, ... in pixels of the stored image.

    0 is the centre of the first pixel; both coordinates of an unknown point are NaN.
    """
    return need("label", pa.list_(need("item", pa.float32()), 2 * num_points))


CLIPS = (need("group", pa.string()), need("order", pa.int32()))
"""The clip of a row and its place in it, where the source has clips."""


def pool(content: pa.Field = IMAGE, *, grouped: bool = False) -> pa.Schema:
    """Unlabelled examples: images or features; ``grouped`` adds clip and place."""
    clips = CLIPS if grouped else ()
    return declared("pool", need("example_id", pa.string()), content, *clips)


def labelled(
    content: pa.Field = IMAGE, label: pa.Field = CLASS, *, grouped: bool = False
) -> pa.Schema:
    """Examples with ground truth, classes or points; also the validation and test splits."""
    clips = CLIPS if grouped else ()
    return declared("labelled", need("example_id", pa.string()), content, label, *clips)


def hidden(label: pa.Field = CLASS) -> pa.Schema:
    """True labels of pool rows, kept apart: read by reports, never by a decision."""
    return declared("hidden", need("example_id", pa.string()), label)


HIDDEN = hidden()
"""The same of classes."""

REFUSED = declared(
    "refused",
    need("example_id", pa.string()),
    need("origin", pa.string()),
    need("reason", pa.string()),
)
"""Rows that could not be used, each with its origin and the reason."""


def predictions(num_classes: int, *, doubt: bool = False, features: int = 0) -> pa.Schema:
    """What the teacher believes: one row for each pool example.

    With ``doubt`` it holds as well how far several sources are apart, with ``features`` so many
    numbers a row that say where it lies in the network's feature space, of length 1.
    """
    lies = pa.list_(need("item", pa.float16()), features)
    columns = ("agreement", "spread", "margin") if doubt else ()
    return declared(
        "predictions",
        need("example_id", pa.string()),
        need("label", pa.int32()),
        need("confidence", pa.float32()),
        need("log_probs", pa.list_(need("item", pa.float32()), num_classes)),
        *(need(name, pa.float32()) for name in columns),
        *([need("features", lies)] if features else []),
    )


def selection(num_classes: int, *, soft: bool) -> pa.Schema:
    """Accepted rows only: ``target`` is a class (hard) or a distribution (soft)."""
    target = pa.list_(need("item", pa.float32()), num_classes) if soft else pa.int32()
    return declared(
        "selection",
        need("example_id", pa.string()),
        need("label", pa.int32()),
        need("target", target),
        need("weight", pa.float32()),
    )


def conform(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """The table in exactly the declared schema; types are never converted silently.

    Raises:
        SchemaError: Columns are missing, surplus, of another type or hold nulls; all are named.
    """
    faults = [
        f"missing {field.name}: {field.type}"
        for field in schema
        if field.name not in table.column_names
    ]
    times = Counter(table.column_names)
    faults += [f"{name} comes {n} times" for name, n in times.items() if n > 1]
    for name in (name for name, n in times.items() if n == 1):
        at = schema.get_field_index(name)
        column = table[name]
        if at < 0:
            faults.append(f"surplus {name}: {column.type}")
        elif not _same_type(column.type, schema.field(at).type):
            faults.append(f"{name} is {column.type}, must be {schema.field(at).type}")
        elif nulls := _nulls(column):
            faults.append(f"{name} holds {nulls} nulls")
        elif name in ("confidence", "weight") and not _finite(column):
            faults.append(f"{name} holds values that are not finite")
    if faults:
        raise SchemaError(f"{where}: {'; '.join(faults)}")
    ordered = table.select(schema.names)
    if ordered.schema.equals(schema, check_metadata=True):
        return ordered
    columns = [
        pa.chunked_array(
            [_cast(chunk, field.type) for chunk in ordered[field.name].chunks], type=field.type
        )
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _nulls(column: pa.ChunkedArray) -> int:
    """Null rows, and null items of lists that are not null themselves."""
    nulls = int(column.null_count)
    if pa.types.is_fixed_size_list(column.type):
        nulls += sum(chunk.flatten().null_count for chunk in column.chunks)
    return nulls


def _finite(column: pa.ChunkedArray) -> bool:
    return len(column) == 0 or bool(pc.all(pc.is_finite(column)).as_py())


def _same_type(found: pa.DataType, needed: pa.DataType) -> bool:
    """Equal types, where the name and nullability of list items do not count."""
    if pa.types.is_fixed_size_list(found) and pa.types.is_fixed_size_list(needed):
        sizes = found.list_size == needed.list_size
        return sizes and _same_type(found.value_type, needed.value_type)
    return bool(found == needed)


def _cast(chunk: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same values under the declared list item field."""
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(chunk.flatten(), type=kind)
    return chunk.cast(kind)
