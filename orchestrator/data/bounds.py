"""Bounds on Parquet files from elsewhere, by what they say of themselves before they are read."""

from typing import Any

import pyarrow as pa

from orchestrator.errors import DataError

MOST_GROWTH = 1000
"""A file may unpack to so many times its size; images hardly shrink, labels do."""
FREE_BYTES = 256 << 20
"""What any file may unpack to."""
MOST_ROWS_PER_BYTE = 64
FREE_ROWS = 1_000_000
MOST_LIST = 1 << 22
"""Numbers in one list of a row; each row takes them all, even where it holds nothing."""


def check_bounds(metadata: Any, schema: pa.Schema, num_bytes: int, where: str) -> None:
    """Refuse a file that would unpack to far more than it is.

    ``metadata`` is a pyarrow FileMetaData, ``num_bytes`` the file's size.

    Raises:
        DataError: Names the file, what it says, and the bound.
    """
    unpacked = sum(
        max(0, metadata.row_group(i).column(k).total_uncompressed_size)
        for i in range(metadata.num_row_groups)
        for k in range(metadata.num_columns)
    )
    if unpacked > (most := FREE_BYTES + MOST_GROWTH * num_bytes):
        raise DataError(
            f"{where} would unpack from {num_bytes:,} to {unpacked:,} bytes, at most {most:,}"
        )
    if metadata.num_rows > (most := FREE_ROWS + MOST_ROWS_PER_BYTE * num_bytes):
        raise DataError(
            f"{where} says it holds {metadata.num_rows:,} rows in {num_bytes:,} bytes, at most "
            f"{most:,}"
        )
    for name, kind in zip(schema.names, schema.types, strict=True):
        if (width := _widest(kind)) > MOST_LIST:
            raise DataError(
                f"{where}: column {name!r} holds lists of {width:,}, at most {MOST_LIST:,}"
            )


def _widest(kind: Any) -> int:
    """Numbers in the longest list of fixed size in a type, nested ones multiplied."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * max(1, _widest(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _widest(kind.value_type)
    if pa.types.is_struct(kind):
        return max((_widest(kind.field(i).type) for i in range(kind.num_fields)), default=0)
    return 0
