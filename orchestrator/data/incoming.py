"""Rows to predict that belong to no data set: a folder of images, or Parquet files."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.examples import IMAGE_SUFFIXES, read_image
from orchestrator.data.parquet_files import (
    BROKEN,
    ROWS_AT_ONCE,
    columns_of,
    content_of,
    name_of,
    rows_of,
)
from orchestrator.errors import DataError


def incoming(path: Path, *, features: int = 0) -> Iterator[pa.Table]:
    """Blocks of rows with ``example_id`` and ``image``, or so many ``features``.

    A folder gives its Parquet files, or else every image file below it, named by its path there.

    Raises:
        DataError: Nothing is there, or what is there can't be read.
    """
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(path.glob("*.parquet"))
    else:
        raise DataError(f"{path}: no such file or folder")
    if features:
        if not files:
            raise DataError(
                f"{path}: this student reads features: name Parquet files that hold them"
            )
        return chain.from_iterable(_features(file, features) for file in files)
    if files:
        for file in files:
            columns_of(file)
        seen: Counter[str] = Counter()  # of all files: equal images get names of their own
        return _blocks(chain.from_iterable(_rows(file, seen) for file in files))
    return _blocks(_images(path))


def _blocks(rows: Iterator[tuple[str, bytes]]) -> Iterator[pa.Table]:
    while block := list(islice(rows, ROWS_AT_ONCE)):
        yield pa.table({"example_id": [name for name, _ in block], "image": [c for _, c in block]})


def _images(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        within = path.relative_to(root)
        hidden = any(part.startswith(".") for part in within.parts)
        if not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield within.as_posix(), read_image(path)[0]


def _rows(file: Path, seen: Counter[str]) -> Iterator[tuple[str, bytes]]:
    names = pq.read_schema(file).names
    for row, _ in rows_of(file, [name for name in ("example_id", "image") if name in names]):
        content = content_of(row)
        yield name_of(row, "", content, seen), content


def _features(file: Path, width: int) -> Iterator[pa.Table]:
    """Blocks of a file of features.

    Raises:
        DataError: It can't be read or holds no such features.
    """
    try:
        with pq.ParquetFile(file) as opened:
            columns = opened.schema_arrow
            kind = columns.field("features").type if "features" in columns.names else None
            fits = (
                kind is not None and pa.types.is_fixed_size_list(kind) and kind.list_size == width
            )
            if not fits or "example_id" not in columns.names:
                raise DataError(
                    f"{file} must hold 'example_id' and 'features' of {width} numbers, as "
                    f"`selftrain embed` writes them; found {', '.join(columns.names)}"
                )
            for batch in opened.iter_batches(ROWS_AT_ONCE, columns=["example_id", "features"]):
                yield pa.Table.from_batches([batch])
    except BROKEN as error:
        raise DataError(f"{file} can't be read as Parquet: {error}") from error
