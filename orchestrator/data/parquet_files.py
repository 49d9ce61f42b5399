"""Rows of Parquet files that hold images: `parquet:PATH`, and what `landmarks:PATH` shares."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.bounds import check_bounds
from orchestrator.data.examples import PARTS, Part, RawExample, Source
from orchestrator.errors import DataError

ROWS_AT_ONCE = 1024
BROKEN = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What reading a broken file raises."""


def parquet(path: Path) -> Source:
    """Parquet files with ``image`` (bytes or {bytes, path}).

    Columns ``label``, ``example_id`` and ``split`` are optional; a row without a label goes to the
    pool.

    Raises:
        DataError: There is no such file, or it holds no images.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"parquet:{path}: no Parquet file there")
    for file in files:
        columns_of(file)

    def examples() -> Iterator[RawExample]:
        seen: Counter[str] = Counter()
        for file in files:
            for row, origin in rows_of(file):
                yield _row(row, origin, part_of(file), seen)

    return Source(path.stem, examples())


def columns_of(file: Path) -> pa.Schema:
    """The columns of a file of images.

    Raises:
        DataError: It can't be read, would unpack to far more than it is, or has no column of
            encoded images.
    """
    try:
        with pq.ParquetFile(file) as opened:
            columns = opened.schema_arrow
            check_bounds(opened.metadata, columns, file.stat().st_size, str(file))
    except BROKEN as error:
        raise DataError(f"{file} can't be read as Parquet: {error}") from error
    if "image" not in columns.names:
        raise DataError(f"{file} has no column 'image', only {', '.join(columns.names)}")
    if twice := sorted(name for name, n in Counter(columns.names).items() if n > 1):
        raise DataError(f"{file} has more than one column {', '.join(map(repr, twice))}")
    kind = columns.field("image").type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(f"{file}: column 'image' is {kind}, must be bytes or {{bytes, path}}")
    return columns


def rows_of(file: Path, columns: list[str] | None = None) -> Iterator[tuple[dict[str, Any], str]]:
    """Every row of a file with its origin, for messages.

    Raises:
        DataError: The file is broken.
    """
    at = 0
    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    yield row, f"{file.name} row {at}"
                    at += 1
    except BROKEN as error:
        raise DataError(f"{file} can't be read as Parquet: {error}") from error


def part_of(file: Path) -> Part:
    """The part of a file's rows that name none: ``test`` where the file is called so."""
    return "test" if file.stem == "test" else "train"


def split_of(row: dict[str, Any], origin: str, fallback: Part) -> Part:
    """The part that a row is assigned to.

    Raises:
        DataError: There is no such part.
    """
    if (split := row.get("split")) is None:
        return fallback
    if split not in PARTS:
        raise DataError(f"{origin}: split {split!r} must be one of {', '.join(PARTS)}")
    return PARTS[split]


def content_of(row: dict[str, Any]) -> bytes:
    """The encoded image of a row; empty where it has none."""
    image = row["image"]
    return (image.get("bytes") if isinstance(image, dict) else image) or b""


def name_of(row: dict[str, Any], key: str, content: bytes, seen: Counter[str]) -> str:
    """The id of a row, or one that follows from its content and ``key``; equal ones are numbered.

    Rows that share such a name and differ in its number are the same in all.
    """
    if (name := row.get("example_id")) is not None:
        return str(name)
    digest = hashlib.sha256(key.encode() + content).hexdigest()[:16]
    seen[digest] += 1
    return digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def _row(row: dict[str, Any], origin: str, fallback: Part, seen: Counter[str]) -> RawExample:
    content, label = content_of(row), row.get("label")
    part = split_of(row, origin, fallback)
    part = "unlabelled" if label is None and part == "train" else part
    name = name_of(row, f"{part}/{label}/", content, seen)
    return RawExample(name, origin, content, None if label is None else str(label), part)
