"""Preparing data: the same whole tables whatever the order of the source."""

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.data.dataset import Dataset
from tests.orchestrator.data.pictures import (
    digit_like,
    picture,
    put,
    rows,
    write_folder,
    write_idx,
    write_parquet,
)
from tests.orchestrator.data.preparing import SPLITS, ids, labels, make, refused, tables
from trainables import schemas
from trainables.images import encode


def test_digits_become_four_tables_and_hidden_labels(digits):
    manifest = Dataset(digits).manifest
    counts = {name: getattr(manifest, name).num_rows for name in SPLITS}
    assert counts == {
        "labelled": 100,
        "pool": 1047,
        "hidden": 1047,
        "validation": 200,
        "test": 450,
    }
    assert manifest.classes == tuple("0123456789")
    assert (manifest.channels, manifest.size) == (1, 8)
    assert len(manifest.pool.files) == len(manifest.hidden.files) == 5
    assert set(labels(digits, "labelled").values()) == {10}


def test_tables_have_their_declared_columns_and_every_row_stands_in_one_split(digits):
    data = Dataset(digits)
    for name, schema in (("labelled", schemas.labelled()), ("pool", schemas.pool())):
        assert data.table(getattr(data.manifest, name)).schema.equals(schema, check_metadata=True)
    found = [i for name in ("labelled", "pool", "validation", "test") for i in ids(digits, name)]
    assert len(found) == len(set(found)) == 1797


def test_the_pool_holds_no_labels_and_hidden_labels_lie_fragment_by_fragment(digits):
    data = Dataset(digits)
    for pool, hidden in zip(data.manifest.pool.files, data.manifest.hidden.files, strict=True):
        table = data.read(pool)
        assert table.column_names == ["example_id", "image"]
        assert data.read(hidden)["example_id"] == table["example_id"]


def test_rows_that_were_never_labelled_have_no_hidden_label(tmp_path):
    source = write_folder(tmp_path / "source")
    put(tmp_path / "source" / "unlabelled" / "u.png", picture(100))
    make(tmp_path / "out", source)
    assert "unlabelled/u.png" in ids(tmp_path / "out", "pool")
    assert "unlabelled/u.png" not in ids(tmp_path / "out", "hidden")


def test_a_pool_without_any_known_label_has_no_hidden_table(tmp_path):
    source = write_folder(tmp_path / "source", per_class=6)
    put(tmp_path / "source" / "unlabelled" / "u.png", picture(100))
    manifest = make(tmp_path / "out", source)
    assert manifest.pool.num_rows == 1
    assert manifest.hidden.files == ()


def test_splits_keep_the_classes_own_proportions(tmp_path):
    content = rows(15) + [r | {"label": "cat"} for r in rows(15, first=100)]
    source = write_parquet(tmp_path / "a.parquet", content)
    make(tmp_path / "out", source, validation=8, test=12)
    assert labels(tmp_path / "out", "labelled") == {0: 2, 1: 2}
    assert labels(tmp_path / "out", "validation") == {0: 6, 1: 2}
    assert labels(tmp_path / "out", "test") == {0: 9, 1: 3}


def test_a_split_has_as_many_rows_as_asked_where_proportions_leave_a_rest(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows(20))
    manifest = make(tmp_path / "out", source, validation=7, test=5)
    assert (manifest.validation.num_rows, manifest.test.num_rows) == (7, 5)


def test_splits_that_the_source_has_are_kept(tmp_path):
    source = write_folder(tmp_path / "source")
    put(tmp_path / "source" / "test" / "dog" / "t.png", picture(100))
    manifest = make(tmp_path / "out", source, test=6)
    assert ids(tmp_path / "out", "test") == ["test/dog/t.png"]
    assert manifest.validation.num_rows == 4


def test_the_seed_decides_the_draw(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows())
    first = make(tmp_path / "one", source)
    assert tables(make(tmp_path / "same", source)) == tables(first)
    assert tables(make(tmp_path / "other", source, seed=1)) != tables(first)


def test_ids_and_splits_do_not_depend_on_the_order_of_the_source(tmp_path):
    content = rows()
    before = make(tmp_path / "one", write_parquet(tmp_path / "a.parquet", content))
    random.Random(0).shuffle(content)
    after = make(tmp_path / "two", write_parquet(tmp_path / "a.parquet", content))
    assert tables(after) == tables(before)


def test_idx_rows_have_names_of_their_own_whatever_their_order(tmp_path):
    images, numbers = digit_like(20)
    write_idx(tmp_path / "set", "train", images, numbers)
    before = make(tmp_path / "one", f"idx:{tmp_path}/set")
    order = np.random.default_rng(0).permutation(20)
    write_idx(tmp_path / "set", "train", images[order], numbers[order])
    assert tables(make(tmp_path / "two", f"idx:{tmp_path}/set")) == tables(before)


def test_a_row_more_moves_no_other_row_of_another_class(tmp_path):
    content = rows()
    make(tmp_path / "one", write_parquet(tmp_path / "a.parquet", content))
    more = [{"image": picture(500), "label": "cat", "example_id": "new"}]
    make(tmp_path / "two", write_parquet(tmp_path / "a.parquet", content + more))
    dogs = {r["example_id"] for r in content if r["label"] == "dog"}
    for split in ("labelled", "validation", "test", "pool"):
        one, two = (set(ids(tmp_path / name, split)) & dogs for name in ("one", "two"))
        assert one == two


def test_fragments_hold_at_most_the_rows_asked_for_in_order_of_ids(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows())
    manifest = make(tmp_path / "out", source, fragment_rows=5)
    assert [f.rows for f in manifest.pool.files] == [5, 3]
    assert ids(tmp_path / "out", "pool") == sorted(ids(tmp_path / "out", "pool"))


@pytest.mark.parametrize(("sides", "size"), [((8, 8), 8), ((8, 9), None)])
def test_the_size_is_known_where_all_images_share_it(tmp_path, sides, size):
    content = [r | {"image": picture(i, sides[i % 2])} for i, r in enumerate(rows())]
    manifest = make(tmp_path / "out", write_parquet(tmp_path / "a.parquet", content))
    assert manifest.size == size


def test_images_that_are_not_square_have_no_common_size(tmp_path):
    content = [r | {"image": encode(np.full((4, 6), i, np.uint8))} for i, r in enumerate(rows())]
    assert make(tmp_path / "out", write_parquet(tmp_path / "a.parquet", content)).size is None


def test_one_coloured_image_makes_the_data_coloured(tmp_path):
    content = rows()
    content[0]["image"] = encode(np.zeros((8, 8, 3), np.uint8))
    manifest = make(tmp_path / "out", write_parquet(tmp_path / "a.parquet", content))
    assert manifest.channels == 3


# duplicates


def _with_duplicates() -> list[dict[str, Any]]:
    """A test row that is also a training row, with another encoding; and a pair inside train."""
    pair = [{"image": picture(0), "label": "cat", "example_id": "row-twin", "split": "test"}]
    return [r | {"split": "train"} for r in rows()] + pair


def test_duplicates_across_splits_are_reported(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", _with_duplicates())
    manifest = make(tmp_path / "out", source, validation=2)
    assert manifest.num_duplicates == 1
    (line,) = manifest.duplicates
    assert "test:row-twin" in line
    assert "row-000" in line
    assert "row-000" in ids(tmp_path / "out", line.split(":")[0])


def test_duplicates_are_refused_if_asked_and_the_test_row_stays(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", _with_duplicates())
    make(tmp_path / "out", source, validation=2, drop_duplicates=True, most_refused_share=0)
    assert refused(tmp_path / "out") == {"a.parquet row 0": "exact duplicate of a test row"}
    assert ids(tmp_path / "out", "test") == ["row-twin"]
    others = [i for s in ("labelled", "pool", "validation") for i in ids(tmp_path / "out", s)]
    assert "row-000" not in others


def test_the_same_pixels_in_another_encoding_are_a_duplicate(tmp_path):
    content = _with_duplicates()
    path = tmp_path / "x.bmp"
    put(tmp_path / "x.png", picture(0))
    Image.open(tmp_path / "x.png").save(path)
    content[-1]["image"] = path.read_bytes()
    assert make(tmp_path / "out", write_parquet(tmp_path / "a.parquet", content)).num_duplicates


def test_the_same_bytes_in_another_shape_are_no_duplicate(tmp_path):
    content = _with_duplicates()
    flat = np.arange(16, dtype=np.uint8)
    content[0]["image"] = encode(flat.reshape(2, 8))
    content[-1]["image"] = encode(flat.reshape(4, 4))
    manifest = make(tmp_path / "out", write_parquet(tmp_path / "a.parquet", content))
    assert manifest.num_duplicates == 0


def test_equal_rows_of_one_split_are_no_duplicates_across_splits(tmp_path):
    content = rows()
    twin = {"image": picture(300), "label": None}
    content += [twin | {"example_id": "u1"}, twin | {"example_id": "u2"}]
    manifest = make(tmp_path / "out", write_parquet(tmp_path / "a.parquet", content))
    assert manifest.num_duplicates == 0
