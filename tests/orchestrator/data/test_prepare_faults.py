"""Preparing data: whole tables or a clear error, and nothing half written."""

from pathlib import Path

import pytest

from orchestrator.data.dataset import MANIFEST, Dataset, PrepareSpec
from orchestrator.data.prepare import already_prepared, prepare
from orchestrator.errors import DataError
from tests.orchestrator.data.pictures import (
    picture,
    put,
    rows,
    write_folder,
    write_parquet,
)
from tests.orchestrator.data.preparing import SMALL, SPLITS, ids, make, refused

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
