"""Whatever a config, an image or a table holds, only errors of ours come out."""

import contextlib
import gzip
import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from orchestrator.data.checking import check
from orchestrator.data.dataset import MANIFEST, Dataset
from orchestrator.data.sources import open_source
from orchestrator.errors import ConfigError, DataError
from orchestrator.loading import load_config
from trainables.images import ImageError, decode

QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ONCE = settings(QUICK, max_examples=30)
WORDS = """
name data store method recipe placement tracking sweep training selector kind task student steps
schedule labelling foreign space
"""
KEYS = st.sampled_from(WORDS.split()) | st.text(max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["fixmatch", "../x", "s3://k:s@b", "class_share", "linear", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)
CUT = st.floats(0.0, 1.0)


def damaged(content: bytes, changes: list[tuple[float, int]], cut: float) -> bytes:
    """Some bytes changed, and the end cut off."""
    found = bytearray(content)
    for share, value in changes:
        found[int(share * len(found))] = value
    return bytes(found[: max(1, int(cut * len(found)))])


def picture(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 3)).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


@QUICK
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_tree_is_a_config_or_a_config_error(tmp_path, tree):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    with contextlib.suppress(ConfigError):
        load_config(path)


@QUICK
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes_are_a_config_or_a_config_error(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        load_config(path)


@QUICK
@given(KEYS, KEYS, VALUES)
def test_any_override_is_taken_or_a_config_error(tmp_path, first, second, value):
    path = tmp_path / "config.yaml"
    path.write_text("{name: a, data: d}")
    with contextlib.suppress(ConfigError):
        load_config(path, [f"{first}.{second}={value}"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_any_damaged_image_is_an_image_or_an_image_error(kind):
    whole = picture(kind)

    @QUICK
    @given(CHANGES, CUT)
    def holds(changes, cut):
        with contextlib.suppress(ImageError):
            decode(damaged(whole, changes, cut), size=8)

    holds()


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_an_image_error(content):
    with contextlib.suppress(ImageError):
        decode(content)


@ONCE
@given(CHANGES, CUT)
def test_any_damaged_table_is_a_source_or_a_data_error(tmp_path, changes, cut):
    table = pa.table(
        {"image": [picture("PNG")] * 6, "label": list("ababab"), "example_id": list("uvwxyz")}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    (tmp_path / "t.parquet").write_bytes(damaged(sink.getvalue(), changes, cut))
    with contextlib.suppress(DataError):
        check(open_source(f"parquet:{tmp_path / 't.parquet'}"), lambda rows: None)


@ONCE
@given(CHANGES, CUT)
def test_any_damaged_archive_is_a_source_or_a_data_error(tmp_path, changes, cut):
    images = struct.pack(">4B3I", 0, 0, 8, 3, 4, 5, 5) + bytes(range(100))
    labels = struct.pack(">4BI", 0, 0, 8, 1, 4) + bytes([0, 1, 0, 1])
    content = damaged(gzip.compress(images, mtime=0), changes, cut)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    with contextlib.suppress(DataError):
        check(open_source(f"idx:{tmp_path}"), lambda rows: None)


@ONCE
@given(CHANGES, CUT)
def test_any_damaged_manifest_is_a_data_set_or_a_data_error(digits, tmp_path, changes, cut):
    content = damaged((digits / MANIFEST).read_bytes(), changes, cut)
    (tmp_path / MANIFEST).write_bytes(content)
    for name in ("labelled.parquet", "test.parquet"):
        (tmp_path / name).write_bytes((digits / name).read_bytes())
    with contextlib.suppress(DataError):
        data = Dataset(tmp_path)
        data.table(data.manifest.labelled)
        assert data.labelled_rows
