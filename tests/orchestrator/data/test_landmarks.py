"""Landmark sources: all files of a folder together, which must agree in their points."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.data.sources import open_source
from orchestrator.errors import ConfigError, DataError
from tests.orchestrator.data.marked import (
    NAMES,
    clip_rows,
    complains_or_reads,
    examples,
    marked_rows,
    write_names,
    write_rows,
    write_video,
)
from tests.orchestrator.data.pictures import picture, put, rows, write_parquet
from tests.orchestrator.data.test_pts import pts


def test_all_files_of_a_folder_are_one_source(tmp_path):
    write_rows(tmp_path / "a.parquet", marked_rows(2))
    write_rows(tmp_path / "b.parquet", clip_rows(2))
    put(tmp_path / "deep" / "x.png", picture(50))
    put(tmp_path / "deep" / "x.pts", pts([(2, 2), (3, 3), (4, 4)]).encode())
    put(tmp_path / "y.png", picture(51))
    write_video(tmp_path / "deep" / "v.mkv", [np.zeros((16, 16, 3), np.uint8)])
    write_names(tmp_path)
    source = open_source(f"landmarks:{tmp_path}")
    assert source.name == tmp_path.name
    assert source.classes == NAMES
    assert source.points is not None and source.points.mirrored == (0, 2, 1)
    assert [e.example_id for e in source.examples] == [
        "row-000",
        "row-001",
        "clip-001",
        "clip-000",
        "deep/x.png",
        "y.png",
        "v-frame000000",
    ]


def test_names_lie_beside_a_single_file_too(tmp_path):
    write_names(tmp_path)
    assert open_source(write_rows(tmp_path / "a.parquet", marked_rows(1))).classes == NAMES


def test_points_have_numbers_where_nothing_names_them(tmp_path):
    source = open_source(write_rows(tmp_path / "a.parquet", marked_rows(1)))
    assert source.classes == ("point-0", "point-1", "point-2")
    assert source.points is not None and source.points.mirrored == (0, 1, 2)


def test_hidden_files_and_folders_are_not_looked_at(tmp_path):
    write_rows(tmp_path / "a.parquet", marked_rows(1))
    put(tmp_path / ".cache" / "x.png", picture(50))
    put(tmp_path / ".x.mp4", b"no video")
    assert len(examples(f"landmarks:{tmp_path}")) == 1


def test_other_numbers_of_points_are_named_with_their_files(tmp_path):
    write_rows(tmp_path / "a.parquet", marked_rows(1))
    write_rows(tmp_path / "b.parquet", [{"image": picture(1), "points": [1.0, 1.0]}])
    with pytest.raises(
        DataError, match=r"other numbers of points: 3 in a\.parquet, 1 in b\.parquet"
    ):
        open_source(f"landmarks:{tmp_path}")
    (tmp_path / "b.parquet").unlink()
    write_names(tmp_path, names=["a", "b"], flip_pairs=[], normaliser="box")
    with pytest.raises(DataError, match=r"2 in the file of names, 3 in a\.parquet"):
        open_source(f"landmarks:{tmp_path}")


def test_a_source_that_is_not_there_or_empty_says_what_it_looked_for(tmp_path):
    with pytest.raises(DataError, match="nowhere is not there"):
        open_source(f"landmarks:{tmp_path}/nowhere")
    with pytest.raises(DataError, match="holds no Parquet files, COCO keypoints files"):
        open_source(f"landmarks:{tmp_path}")
    put(tmp_path / "a.csv", b"x,y")
    with pytest.raises(DataError, match=r"a\.csv must be a folder, or one of these: Parquet"):
        open_source(f"landmarks:{tmp_path}/a.csv")
    with pytest.raises(ConfigError, match="did you mean 'landmarks'"):
        open_source("landmark:x")


def test_images_alone_hold_no_points(tmp_path):
    put(tmp_path / "a.png", picture(0))
    with pytest.raises(DataError, match="holds no rows with points"):
        open_source(f"landmarks:{tmp_path}")


def test_a_source_of_classes_is_no_source_of_points(tmp_path):
    write_parquet(tmp_path / "a.parquet", rows(1))
    with pytest.raises(DataError, match="holds no rows with points"):
        open_source(f"landmarks:{tmp_path}")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["a.parquet", "a.json", "a.pts", "a.mp4", "a.avi", "a.mkv", "landmarks.json"]),
    st.binary(max_size=60),
)
def test_whatever_a_file_holds_it_is_read_or_complained_of(tmp_path_factory, name, content):
    folder = tmp_path_factory.mktemp("any")
    write_rows(folder / "rows.parquet", marked_rows(1))
    put(folder / name, content)
    put(folder / "a.png", picture(3))
    complains_or_reads(lambda: examples(f"landmarks:{folder}"))
