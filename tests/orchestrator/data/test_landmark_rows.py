"""Parquet rows with points: parts, clips, and what is refused."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.sources import open_source
from orchestrator.errors import DataError
from tests.orchestrator.data.marked import (
    NAN,
    clip_rows,
    complains_or_reads,
    damaged,
    examples,
    marked_rows,
    write_rows,
)
from tests.orchestrator.data.pictures import picture


def test_rows_have_points_and_those_without_are_unlabelled(tmp_path):
    content = [*marked_rows(1), {"image": picture(1), "example_id": "u"}]
    first, second = examples(write_rows(tmp_path / "a.parquet", content))
    assert (first.example_id, first.part, first.points) == (
        "row-000",
        "train",
        (1.0, 0.0, 2.5, 3.0, 6.0, 3.25),
    )
    assert (second.part, second.points, second.group) == ("unlabelled", None, None)
    assert first.label is None
    assert first.content == picture(0)


def test_splits_are_those_of_other_parquet_sources(tmp_path):
    content = [
        row | {"split": split}
        for row, split in zip(
            marked_rows(5), ["val", "test", "unlabelled", "train", None], strict=True
        )
    ]
    parts = [e.part for e in examples(write_rows(tmp_path / "a.parquet", content))]
    assert parts == ["validation", "test", "unlabelled", "train", "train"]
    assert {e.part for e in examples(write_rows(tmp_path / "test.parquet", marked_rows(2)))} == {
        "test"
    }
    text = write_rows(tmp_path / "b.parquet", [content[0] | {"split": "dev"}])
    with pytest.raises(DataError, match=r"b\.parquet row 0: split 'dev' must be one of train"):
        examples(text)


@pytest.mark.parametrize("name", ["frame", "order"])
def test_clips_have_a_name_and_a_place(tmp_path, name):
    content = [row | {"group_id": 7, name: 3 - i} for i, row in enumerate(marked_rows(2))]
    found = examples(write_rows(tmp_path / "a.parquet", content))
    assert [(e.group, e.order) for e in found] == [("7", 3), ("7", 2)]


def test_a_frame_of_no_clip_stands_alone(tmp_path):
    content = [*clip_rows(1), *marked_rows(1, frame=9)]
    found = examples(write_rows(tmp_path / "a.parquet", content))
    assert [(e.group, e.order) for e in found if e.points] == [(None, 0)]


def test_a_row_of_a_clip_without_a_place_in_it_has_a_fault(tmp_path):
    content = [row | {"frame": frame} for row, frame in zip(clip_rows(2), [None, -1], strict=True)]
    found = examples(write_rows(tmp_path / "a.parquet", [*content, *marked_rows(1)]))
    assert [e.fault for e in found] == [
        "a row of group 'clip' without a place in it",
        "place -1 in group 'clip', must be 0 to 2147483647",
        None,
    ]


def test_rows_without_ids_are_named_by_what_they_hold(tmp_path):
    content = [{"image": r["image"], "points": r["points"]} for r in marked_rows(2)]
    content += [content[0], content[0] | {"points": None}]
    before = examples(write_rows(tmp_path / "a.parquet", content))
    after = examples(write_rows(tmp_path / "a.parquet", content[::-1]))
    assert {e.example_id for e in before} == {e.example_id for e in after}
    assert len({e.example_id for e in before}) == 4


def test_a_coordinate_that_is_null_is_unknown(tmp_path):
    text = write_rows(
        tmp_path / "a.parquet", [{"image": picture(0), "points": [1.0, 2.0, None, None]}]
    )
    (found,) = examples(text)
    assert found.points is not None
    assert found.points[:2] == (1, 2) and all(map(math.isnan, found.points[2:]))


def test_the_number_of_points_is_what_most_rows_have_or_what_the_type_says(tmp_path):
    rows = marked_rows(3)
    rows[0]["points"] = [1.0, 1.0]
    assert len(open_source(write_rows(tmp_path / "a.parquet", rows)).classes or ()) == 3
    kind = pa.list_(pa.float32(), 4)
    table = pa.table({"image": [picture(0)], "points": pa.array([None], kind)})
    pq.write_table(table, tmp_path / "b.parquet")
    source = open_source(f"landmarks:{tmp_path}/b.parquet")
    assert source.classes == ("point-0", "point-1")
    assert source.points is not None and source.points.num_points == 2


def test_texts_may_be_categories_and_numbers_whole(tmp_path):
    table = pa.table(
        {
            "image": [picture(0)],
            "points": pa.array([[1, 2]], pa.list_(pa.int16())),
            "split": pa.array(["test"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (found,) = examples(f"landmarks:{tmp_path}/a.parquet")
    assert (found.part, found.points) == ("test", (1.0, 2.0))


def test_columns_of_other_types_are_named_all(tmp_path):
    content = [{"image": picture(0), "points": ["a"], "frame": 0.5, "group_id": 1.5, "split": 0.1}]
    text = write_rows(tmp_path / "a.parquet", content)
    with pytest.raises(DataError) as caught:
        open_source(text)
    assert str(caught.value) == (
        f"{tmp_path}/a.parquet: column 'points' is list<element: string>, must be a list of "
        "numbers; column 'frame' is double, must be whole numbers; column 'group_id' is double, "
        "must be texts or whole numbers; column 'split' is double, must be texts or whole numbers"
    )


def test_clips_need_places(tmp_path):
    text = write_rows(tmp_path / "a.parquet", marked_rows(1, group_id="clip"))
    with pytest.raises(DataError, match="'group_id' needs 'frame' or 'order' beside it"):
        open_source(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"picture": b"x"}], "no column 'image', only picture"),
        ([{"image": "x.png"}], "column 'image' is string, must be bytes"),
        ([{"image": picture(0)}], "holds no rows with points"),
        ([{"image": picture(0), "points": None}], "holds no rows with points|must be a list"),
        ([{"image": picture(0), "points": [1.0, 2.0, NAN]}], "a.parquet has 3 coordinates a row"),
        ([{"image": picture(0), "points": []}], "must be a list of numbers|0 coordinates a row"),
    ],
)
def test_a_file_without_images_or_points_says_what_it_lacks(tmp_path, content, said):
    text = write_rows(tmp_path / "a.parquet", content)
    with pytest.raises(DataError, match=said):
        open_source(text)


def test_a_column_that_comes_twice_is_named(tmp_path):
    image = pa.array([picture(0)])
    table = pa.table([image, image], names=["image", "image"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="more than one column 'image'"):
        open_source(f"landmarks:{tmp_path}/a.parquet")


@pytest.mark.parametrize("kept", [0, 4, 40, 400])
def test_a_file_that_is_cut_short_is_named(tmp_path, kept):
    text = write_rows(tmp_path / "a.parquet", marked_rows(3))
    path = tmp_path / "a.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"a\.parquet can't be read as Parquet"):
        open_source(text)


def test_a_damaged_file_is_read_or_complained_of(tmp_path):
    text = write_rows(tmp_path / "a.parquet", [*marked_rows(3), *clip_rows(2)])
    whole = (tmp_path / "a.parquet").read_bytes()
    for seed in range(300):
        (tmp_path / "a.parquet").write_bytes(damaged(whole, seed))
        complains_or_reads(lambda: examples(text))
    (tmp_path / "a.parquet").write_bytes(whole.replace(b"group_id", b"group_\x83d"))
    complains_or_reads(lambda: examples(text))
