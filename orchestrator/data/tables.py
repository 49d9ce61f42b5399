"""The tables of a data set, written below a folder."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.checking import Label, Row
from orchestrator.data.dataset import Split
from orchestrator.store.record import FileEntry
from orchestrator.store.store import entry_of
from trainables import schemas


@dataclass(frozen=True)
class Columns:
    """What the tables hold of each row beside its id."""

    content: pa.Field = schemas.IMAGE
    """Images or features."""
    label: pa.Field = schemas.CLASS
    """Classes or points."""
    grouped: bool = False
    """Whether they say which clip a row is of."""


def write_tables(
    root: Path,
    splits: dict[str, list[Row]],
    refused: list[tuple[str, str, str]],
    fragment_rows: int,
    columns: Columns,
) -> dict[str, Split]:
    """All tables of the data set, by the name that the manifest gives them."""
    tables: dict[str, Split] = {}
    for name in ("labelled", "validation", "test"):
        table = _labelled_table(splits[name], columns)
        tables[name] = Split(files=(_file(root, f"{name}.parquet", table),))
    pool, hidden = splits["pool"], []
    pool_files = []
    for number, start in enumerate(range(0, len(pool), fragment_rows)):
        rows = pool[start : start + fragment_rows]
        part = f"part-{number:05d}.parquet"
        pool_files.append(_file(root, f"pool/{part}", _pool_table(rows, columns)))
        known = [row for row in rows if row.label is not None]
        hidden.append(_file(root, f"hidden/{part}", _hidden_table(known, columns.label)))
    if any(entry.rows for entry in hidden):
        tables["hidden"] = Split(files=tuple(hidden))
    if refused:
        texts = [pa.array(c, pa.string()) for c in zip(*sorted(refused), strict=True)]
        table = pa.table(texts, schema=schemas.REFUSED)
        tables["refused"] = Split(files=(_file(root, "refused.parquet", table),))
    tables["pool"] = Split(files=tuple(pool_files))
    return tables


def _labelled_table(rows: list[Row], columns: Columns) -> pa.Table:
    schema = schemas.labelled(columns.content, columns.label, grouped=columns.grouped)
    labels = _labels([row.label for row in rows], columns.label)
    found = [_ids(rows), _contents(rows, columns.content), labels, *_clips(rows, columns)]
    return pa.table(found, schema=schema)


def _pool_table(rows: list[Row], columns: Columns) -> pa.Table:
    schema = schemas.pool(columns.content, grouped=columns.grouped)
    return pa.table(
        [_ids(rows), _contents(rows, columns.content), *_clips(rows, columns)], schema=schema
    )


def _hidden_table(known: list[Row], label: pa.Field) -> pa.Table:
    labels = _labels([row.label for row in known], label)
    return pa.table([_ids(known), labels], schema=schemas.hidden(label))


def _ids(rows: list[Row]) -> pa.Array:
    return pa.array([row.example.example_id for row in rows], pa.string())


def _contents(rows: list[Row], content: pa.Field) -> pa.Array:
    values = [row.example.content for row in rows]
    if content.name == "image":
        return pa.array(values, pa.binary())
    flat = pa.array(np.frombuffer(b"".join(values), np.float16))
    return pa.FixedSizeListArray.from_arrays(flat, type=content.type)


def _labels(labels: Sequence[Label | None], label: pa.Field) -> pa.Array:
    if not pa.types.is_fixed_size_list(label.type):
        return pa.array(labels, pa.int32())
    flat = np.array(labels, np.float32).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=label.type)


def _clips(rows: list[Row], columns: Columns) -> list[pa.Array]:
    """Clip and place of each row, where the source has clips."""
    if not columns.grouped:
        return []
    groups = pa.array([row.example.group for row in rows], pa.string())
    return [groups, pa.array([row.example.order for row in rows], pa.int32())]


def _file(root: Path, name: str, table: pa.Table) -> FileEntry:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=1024)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sink.getvalue())
    return entry_of(name, sink.getvalue(), table.num_rows)
