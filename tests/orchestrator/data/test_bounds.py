"""Small files that unpack to very much are refused before they are read."""

import gzip
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data import bounds
from orchestrator.data.bounds import MOST_LIST
from orchestrator.data.sources import open_source
from orchestrator.errors import DataError


def gz(path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content))


def test_an_idx_archive_is_unpacked_no_further_than_its_shape(tmp_path):
    gz(
        tmp_path / "train-images-idx3-ubyte.gz",
        struct.pack(">4B3I", 0, 0, 8, 3, 1, 2, 2) + bytes(1 << 26),
    )
    gz(tmp_path / "train-labels-idx1-ubyte.gz", struct.pack(">4BI", 0, 0, 8, 1, 1) + b"\x01")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz holds too much: more bytes"):
        list(open_source(f"idx:{tmp_path}").examples)


def test_an_idx_file_of_an_absurd_shape_is_refused(tmp_path):
    most = 2**32 - 1
    (tmp_path / "images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, most, most, most))
    (tmp_path / "labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 0))
    with pytest.raises(DataError, match="says it holds 79,228,162,[0-9,]+ bytes"):
        list(open_source(f"idx:{tmp_path}").examples)


def test_a_parquet_file_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "FREE_BYTES", 1 << 20)  # so that the file may be a small one
    path = tmp_path / "bomb.parquet"
    big = bytes(1 << 23)
    with pq.ParquetWriter(
        path, pa.schema({"image": pa.binary()}), compression="zstd", use_dictionary=False
    ) as out:
        for _ in range(5):
            out.write_table(pa.table({"image": [big]}))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"bomb\.parquet would unpack from [\d,]+ to [\d,]+ bytes"):
        open_source(f"parquet:{path}")


def test_a_parquet_file_with_more_rows_than_it_can_hold_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    table = pa.table({"image": pa.nulls(2_000_000, pa.binary())})
    pq.write_table(table, path, compression="zstd")
    with pytest.raises(DataError, match=r"says it holds 2,000,000 rows in [\d,]+ bytes"):
        open_source(f"parquet:{path}")


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32(), 2**31 - 1), pa.struct({"a": pa.list_(pa.int8(), MOST_LIST + 1)})],
)
def test_a_column_of_absurdly_long_lists_is_refused(tmp_path, kind):
    path = tmp_path / "lists.parquet"
    schema = pa.schema({"image": pa.binary(), "points": kind})
    pq.write_table(schema.empty_table(), path)
    with pytest.raises(DataError, match="column 'points' holds lists of [0-9,]+, at most"):
        open_source(f"parquet:{path}")
