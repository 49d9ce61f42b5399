"""Videos: every frame a row of one clip, grey where it is grey."""

import sys

import numpy as np
import pytest

from orchestrator.data.sources import open_source
from orchestrator.errors import ConfigError, DataError
from tests.orchestrator.data.marked import (
    complains_or_reads,
    damaged,
    examples,
    marked_rows,
    write_rows,
    write_video,
)
from tests.orchestrator.data.pictures import put
from trainables.images import decode

GREY = [np.full((16, 24, 3), 20 * i, np.uint8) for i in range(4)]


def coloured() -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 256, (16, 24, 3), np.uint8) for i in range(3)]


def with_rows(folder) -> str:
    """A source of the videos in a folder; a row with points makes it one."""
    write_rows(folder / "rows.parquet", marked_rows(1))
    return f"landmarks:{folder}"


def test_frames_are_unlabelled_rows_of_a_clip_in_order(tmp_path):
    write_video(tmp_path / "deep" / "walk.mkv", coloured())
    _, *found = examples(with_rows(tmp_path))
    assert [(e.example_id, e.group, e.order, e.part) for e in found] == [
        (f"walk-frame00000{i}", "walk", i, "unlabelled") for i in range(3)
    ]
    for frame, example in zip(coloured(), found, strict=True):
        assert np.array_equal(decode(example.content), frame.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["a.mp4", "b.avi", "c.mov", "d.MKV"])
def test_grey_frames_are_kept_grey_in_every_kind_of_file(tmp_path, name):
    write_video(tmp_path / name.lower(), GREY, codec="mpeg4")
    (tmp_path / name.lower()).rename(tmp_path / name)
    _, *found = examples(with_rows(tmp_path))
    assert [decode(e.content).shape for e in found] == [(1, 16, 24)] * 4
    for i, example in enumerate(found):
        assert abs(float(decode(example.content).mean()) - 20 * i) < 4


@pytest.mark.parametrize("content", [b"", b"no video at all", b"#EXTM3U\n#EXTINF:1,\nother.ts\n"])
def test_a_file_that_is_no_video_is_named(tmp_path, content):
    put(tmp_path / "a.mp4", content)
    with pytest.raises(DataError, match=r"a\.mp4 can't be read as video"):
        examples(with_rows(tmp_path))


def test_a_video_that_is_cut_short_is_named_or_read_as_far_as_it_goes(tmp_path):
    write_video(tmp_path / "a.mp4", GREY, codec="mpeg4")
    whole = (tmp_path / "a.mp4").read_bytes()
    for kept in range(0, len(whole), 200):
        (tmp_path / "a.mp4").write_bytes(whole[:kept])
        with pytest.raises(DataError, match=r"a\.mp4 (can't be read as|holds no frames of) video"):
            examples(with_rows(tmp_path))
    (tmp_path / "a.mp4").unlink()
    write_video(tmp_path / "a.mkv", coloured())
    whole = (tmp_path / "a.mkv").read_bytes()
    for kept in range(0, len(whole), 500):
        (tmp_path / "a.mkv").write_bytes(whole[:kept])
        complains_or_reads(lambda: examples(with_rows(tmp_path)))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mpeg4"), ("a.avi", "mpeg4"), ("a.mkv", "ffv1")]
)
def test_a_damaged_video_is_read_or_complained_of(tmp_path, name, codec):
    write_video(tmp_path / name, GREY, codec=codec)
    whole, text = (tmp_path / name).read_bytes(), with_rows(tmp_path)
    for seed in range(60):
        (tmp_path / name).write_bytes(damaged(whole, seed))
        complains_or_reads(lambda: examples(text))


def test_a_video_alone_holds_no_points(tmp_path):
    write_video(tmp_path / "a.mp4", GREY, codec="mpeg4")
    with pytest.raises(DataError, match="holds no rows with points"):
        open_source(f"landmarks:{tmp_path}/a.mp4")


def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", GREY, codec="mpeg4")
    text = with_rows(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        ConfigError, match=r"a\.mp4 is a video, and PyAV is missing: pip install 'selftrain\[video"
    ):
        open_source(text)
