"""Parquet files of images with points, for `landmarks:PATH`."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from orchestrator.data.examples import Found, RawExample
from orchestrator.data.parquet_files import (
    columns_of,
    content_of,
    name_of,
    part_of,
    rows_of,
    split_of,
)
from orchestrator.errors import DataError

ORDERS = ("frame", "order")
MOST_ORDER = 2**31 - 1


def point_rows(file: Path) -> Found:
    """Rows with ``image``; those without points go to the pool.

    Columns ``points``, ``example_id``, ``group_id``, ``frame`` (or ``order``) and ``split`` are
    optional.

    Raises:
        DataError: The file can't be read, or its columns are of other types; all are named.
    """
    columns = columns_of(file)
    faults = _column_faults(columns)
    if faults:
        raise DataError(f"{file}: {'; '.join(faults)}")
    return Found(file.name, _examples(file, columns), _coordinates(file, columns))


def _column_faults(columns: pa.Schema) -> list[str]:
    faults = []
    if "points" in columns.names:
        kind = columns.field("points").type
        if not _is_list(kind) or not _is_number(kind.value_type):
            faults.append(f"column 'points' is {kind}, must be a list of numbers")
    for name in (name for name in ORDERS if name in columns.names):
        kind = columns.field(name).type
        if not kinds.is_integer(kind):
            faults.append(f"column {name!r} is {kind}, must be whole numbers")
    for name in ("group_id", "example_id", "split"):
        if name in columns.names and not _is_name(kind := columns.field(name).type):
            faults.append(f"column {name!r} is {kind}, must be texts or whole numbers")
    if "group_id" in columns.names and not set(ORDERS) & set(columns.names):
        faults.append("a column 'group_id' needs 'frame' or 'order' beside it: place in the group")
    return faults


def _is_list(kind: pa.DataType) -> bool:
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(kinds.is_floating(kind) or kinds.is_integer(kind) or kinds.is_null(kind))


def _is_name(kind: pa.DataType) -> bool:
    if kinds.is_dictionary(kind):
        return _is_name(kind.value_type)
    texts = kinds.is_string(kind) or kinds.is_large_string(kind)
    return bool(texts or kinds.is_integer(kind) or kinds.is_null(kind))


def _coordinates(file: Path, columns: pa.Schema) -> int | None:
    """Coordinates of a row: as the type says, or as most rows have; None without any points."""
    if "points" not in columns.names:
        return None
    kind = columns.field("points").type
    if kinds.is_fixed_size_list(kind):
        return int(kind.list_size)
    lengths = Counter(
        len(row["points"]) for row, _ in rows_of(file, ["points"]) if row["points"] is not None
    )
    return lengths.most_common(1)[0][0] if lengths else None


def _examples(file: Path, columns: pa.Schema) -> Iterator[RawExample]:
    wanted = ("image", "points", "example_id", "group_id", *ORDERS, "split")
    seen: Counter[str] = Counter()
    for row, origin in rows_of(file, [name for name in wanted if name in columns.names]):
        content, points = content_of(row), _points(row)
        part = split_of(row, origin, part_of(file))
        part = "unlabelled" if points is None and part == "train" else part
        group, order, fault = _place(row)
        name = name_of(row, f"{part}/{points}/{group}/{order}/", content, seen)
        yield RawExample(name, origin, content, None, part, points, group, order, fault)


def _points(row: dict[str, Any]) -> tuple[float, ...] | None:
    """The points of a row, where nulls are unknown as well."""
    if (points := row.get("points")) is None:
        return None
    return tuple(math.nan if value is None else float(value) for value in points)


def _place(row: dict[str, Any]) -> tuple[str | None, int, str | None]:
    """The group of a row, its place in it, and what is wrong with them."""
    if (group := row.get("group_id")) is None:
        return None, 0, None
    order = next((row[name] for name in ORDERS if row.get(name) is not None), None)
    if order is None:
        return str(group), 0, f"a row of group {str(group)!r} without a place in it"
    if not 0 <= order <= MOST_ORDER:
        return str(group), 0, f"place {order} in group {str(group)!r}, must be 0 to {MOST_ORDER}"
    return str(group), int(order), None
