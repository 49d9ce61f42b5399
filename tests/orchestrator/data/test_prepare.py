"""Preparing data: whole tables or a clear error, the same whatever the order of the source."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.data.dataset import MANIFEST, Dataset, Manifest, PrepareSpec
from orchestrator.data.prepare import already_prepared, prepare
from orchestrator.errors import DataError
from tests.orchestrator.data.pictures import (
    digit_like,
    picture,
    put,
    rows,
    write_folder,
    write_idx,
    write_parquet,
)
from trainables import schemas
from trainables.images import encode

SPLITS = ("labelled", "pool", "hidden", "validation", "test")
SMALL = {"labelled_per_class": 2, "validation": 4, "test": 4}


def make(out: Path, source: str, **settings: Any) -> Manifest:
    return prepare(source, out, PrepareSpec(**SMALL | settings))


def ids(out: Path, split: str) -> list[str]:
    data = Dataset(out)
    return data.table(getattr(data.manifest, split), ["example_id"])["example_id"].to_pylist()


def labels(out: Path, split: str) -> Counter[int]:
    data = Dataset(out)
    return Counter(data.table(getattr(data.manifest, split))["label"].to_pylist())


def refused(out: Path) -> dict[str, str]:
    """Reason by origin."""
    table = pq.read_table(out / "refused.parquet")
    return dict(zip(table["origin"].to_pylist(), table["reason"].to_pylist(), strict=True))


def tables(manifest: Manifest) -> list[str]:
    return [getattr(manifest, split).digest for split in SPLITS]


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


# rows and sources that can't be used


def test_each_row_that_can_not_be_used_is_kept_apart_with_its_reason(tmp_path):
    source = write_folder(tmp_path / "source")
    bad = tmp_path / "source" / "unlabelled"
    put(bad / "broken.png", picture(0)[:-30])
    put(bad / "empty.png", b"")
    put(bad / "text.png", b"no image at all")
    put(tmp_path / "source" / "test" / "bird" / "b.png", picture(200))
    put(tmp_path / "source" / "test" / "cat" / "c.png", picture(201))
    manifest = make(tmp_path / "out", source, most_refused_share=0.5)
    reasons = refused(tmp_path / "out")
    assert manifest.refused.num_rows == len(reasons) == 4
    assert reasons["unlabelled/broken.png"].startswith("broken image")
    assert reasons["unlabelled/empty.png"] == "the file is empty"
    assert reasons["unlabelled/text.png"] == "not an image"
    assert reasons["test/bird/b.png"] == "unknown class 'bird'"
    assert not set(reasons) & {i for s in SPLITS if s != "hidden" for i in ids(tmp_path / "out", s)}


def test_a_row_of_a_test_split_needs_a_label(tmp_path):
    content = [r | {"split": "train"} for r in rows()]
    content += [{"image": picture(90 + i), "split": "test", "label": i or None} for i in range(2)]
    content[-1]["label"] = "cat"
    source = write_parquet(tmp_path / "a.parquet", content)
    make(tmp_path / "out", source, most_refused_share=0.5)
    assert refused(tmp_path / "out") == {"a.parquet row 20": "a test row without a label"}


def test_a_row_without_an_image_is_refused(tmp_path):
    content = [*rows(), {"image": None, "label": "cat", "example_id": "none"}]
    source = write_parquet(tmp_path / "a.parquet", content)
    make(tmp_path / "out", source, most_refused_share=0.5)
    assert refused(tmp_path / "out") == {"a.parquet row 20": "the file is empty"}


def test_too_many_refused_rows_stop_with_the_first_reasons(tmp_path):
    source = write_folder(tmp_path / "source")
    put(tmp_path / "source" / "cat" / "text.png", b"no image at all")
    with pytest.raises(DataError) as error:
        make(tmp_path / "out", source)
    assert str(error.value).startswith("1 of 21 rows can't be used, more than the share 0.01")
    assert "cat/text.png: not an image" in str(error.value)
    assert "--most-refused-share" in str(error.value)


def test_broken_images_are_named_before_the_rows_that_they_leave_missing(tmp_path):
    for name in ("cat", "dog"):
        for i in range(10):
            put(tmp_path / "source" / name / f"{i}.png", b"no image at all")
    with pytest.raises(DataError, match="20 of 20 rows can't be used.*not an image"):
        make(tmp_path / "out", f"folder:{tmp_path}/source")


def test_two_rows_with_one_id_are_named_both(tmp_path):
    content = rows()
    content[7]["example_id"] = "row-003"
    source = write_parquet(tmp_path / "a.parquet", content)
    with pytest.raises(
        DataError, match=r"the id 'row-003': a\.parquet row 3 and a\.parquet row 7; .*unique"
    ):
        make(tmp_path / "out", source)


def test_too_few_labels_name_every_class_that_is_short(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows(3))
    with pytest.raises(DataError, match="cat has 3, needs 6; dog has 3, needs 6"):
        make(tmp_path / "out", source)


def test_an_empty_pool_says_what_to_ask_less_of(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows(6))
    with pytest.raises(DataError, match="pool is empty: no unlabelled rows are left"):
        make(tmp_path / "out", source)


def test_empty_splits_are_named_all_with_their_options(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows())
    with pytest.raises(DataError) as error:
        make(tmp_path / "out", source, validation=0, test=0)
    assert "validation is empty: the source has no validation split: give --validation N" in str(
        error.value
    )
    assert "test is empty" in str(error.value)


@pytest.mark.parametrize(
    ("keep", "said"), [({"cat"}, "one class only, 'cat'"), (set(), "no labelled rows")]
)
def test_fewer_than_two_classes_are_refused(tmp_path, keep, said):
    content = [r | {"label": r["label"] if r["label"] in keep else None} for r in rows()]
    content[0]["image"] = picture(0)
    source = write_parquet(tmp_path / "a.parquet", [*content, {"image": picture(99)}])
    with pytest.raises(DataError, match=f"holds {said}: at least two classes"):
        make(tmp_path / "out", source)


def test_a_source_without_rows_is_refused(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "source" / name).mkdir(parents=True)
    with pytest.raises(DataError, match="holds no rows"):
        make(tmp_path / "out", f"folder:{tmp_path}/source")


# writing


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_a_failure_leaves_an_older_data_set_as_it_was_and_nothing_beside_it(tmp_path):
    out = tmp_path / "out"
    make(out, write_parquet(tmp_path / "a.parquet", rows()))
    before = files_below(tmp_path)
    with pytest.raises(DataError, match="needs 52"):
        make(out, f"parquet:{tmp_path}/a.parquet", labelled_per_class=50, validation=2, test=2)
    assert files_below(tmp_path) == before


def test_a_failure_of_the_first_preparation_leaves_no_folder(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows(2))
    with pytest.raises(DataError, match="needs"):
        make(tmp_path / "out", source)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_an_older_data_set_is_replaced_whole(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows())
    make(tmp_path / "out", source, fragment_rows=2)
    manifest = make(tmp_path / "out", source, fragment_rows=100)
    assert Dataset(tmp_path / "out").manifest == manifest
    assert [p.name for p in (tmp_path / "out" / "pool").iterdir()] == ["part-00000.parquet"]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    put(tmp_path / "out" / "thesis.txt", b"precious")
    source = write_parquet(tmp_path / "a.parquet", rows())
    with pytest.raises(DataError, match="is not empty and holds no data set"):
        make(tmp_path / "out", source)
    assert files_below(tmp_path / "out") == {"thesis.txt": b"precious"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "out"]


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path):
    put(tmp_path / "out", b"precious")
    with pytest.raises(DataError, match="out is a file"):
        make(tmp_path / "out", write_parquet(tmp_path / "a.parquet", rows()))
    assert (tmp_path / "out").read_bytes() == b"precious"


def test_an_empty_folder_or_the_working_folder_may_be_written(tmp_path, monkeypatch):
    source = write_parquet(tmp_path / "a.parquet", rows())
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    make(Path(), source)
    assert (tmp_path / "out" / MANIFEST).is_file()


def test_the_listener_hears_how_many_rows_were_read(tmp_path):
    heard: list[int] = []
    spec = PrepareSpec(labelled_per_class=10, validation=20, test=20)
    prepare("digits", tmp_path / "out", spec, heard.append)
    assert heard == [500, 1000, 1500]


def test_what_is_already_prepared_is_known_by_source_and_settings(tmp_path):
    source = write_parquet(tmp_path / "a.parquet", rows())
    out = tmp_path / "out"
    assert already_prepared(source, out, PrepareSpec(**SMALL)) is None
    manifest = make(out, source)
    assert already_prepared(source, out, PrepareSpec(**SMALL)) == manifest
    assert already_prepared(source, out, PrepareSpec(**SMALL, seed=1)) is None
    assert already_prepared("digits", out, PrepareSpec(**SMALL)) is None


# reading


def test_a_folder_without_a_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"holds no dataset\.json: make it with 'selftrain prepare"):
        Dataset(tmp_path)


def test_a_manifest_that_can_not_be_read_is_named(tmp_path):
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(DataError, match=r"dataset\.json can't be read"):
        Dataset(tmp_path)


def test_a_table_that_was_changed_or_removed_is_named(tmp_path):
    out = tmp_path / "out"
    manifest = make(out, write_parquet(tmp_path / "a.parquet", rows()))
    path = out / "pool" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"part-00000\.parquet was changed since it was prepared"):
        Dataset(out).table(manifest.pool)
    path.unlink()
    with pytest.raises(DataError, match=r"part-00000\.parquet is missing: prepare the data again"):
        Dataset(out).table(manifest.pool)
