"""300-W files: points beside images, cut down to a square around them."""

import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.pts import pts_points
from orchestrator.data.sources import open_source
from orchestrator.errors import DataError
from tests.orchestrator.data.marked import examples
from tests.orchestrator.data.pictures import picture, pixels, put
from trainables.images import decode

CORNERS = [(1.0, 1.0), (8.0, 8.0)]


def pts(points: list[tuple[float, float]], count: int | None = None) -> str:
    """A file of points as 300-W has them."""
    lines = "\n".join(f"{x} {y}" for x, y in points)
    return f"version: 1\nn_points:  {len(points) if count is None else count}\n{{\n{lines}\n}}\n"


def test_points_are_counted_from_the_centre_of_the_first_pixel():
    assert pts_points(pts([(1, 1), (2.5, 3)])) == (0, 0, 1.5, 2)


def test_windows_line_ends_and_empty_lines_do_not_matter():
    text = pts([(1, 1), (2.5, 3)]).replace("\n", "\r\n\r\n")
    assert pts_points(text) == (0, 0, 1.5, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must stand between { and }"),
        ("n_points: 1\n{\n1 1\n", "must stand between { and }"),
        ("version: 2\nn_points: 1\n{\n1 1\n}", "version is '2', must be 1"),
        ("version: 1\n{\n1 1\n}", "n_points is '', must be a number"),
        ("n_points: 0\n{\n}", "n_points is '0', must be a number of at least 1"),
        ("n_points: 2\n{\n1 1\n}", "n_points is 2, but there are 1 points"),
        ("version: 1\nn_points: 1\n{\n1 x\n}", "line 4: '1 x', must be x y"),
        ("n_points: 1\n{\n1 1 1\n}", "line 3: '1 1 1', must be x y"),
        ("n_points: 1\n{\n1 1\n}\nmore", "something behind the }: 'more'"),
    ],
)
def test_another_form_is_named_with_its_place(text, said):
    with pytest.raises(ValueError, match=said):
        pts_points(text)


@given(st.text(st.sampled_from("{}0123456789.-+ex nan_points:\n"), max_size=80))
def test_whatever_a_text_holds_it_is_read_or_complained_of(text):
    with suppress(ValueError):
        assert len(pts_points(text)) % 2 == 0


def test_an_image_as_large_as_its_points_is_kept_as_it_is(tmp_path):
    put(tmp_path / "a.png", picture(0))
    put(tmp_path / "a.pts", pts(CORNERS).encode())
    (found,) = examples(f"landmarks:{tmp_path}")
    assert (found.example_id, found.part, found.content) == ("a.png", "train", picture(0))
    assert found.points == (0, 0, 7, 7)


def test_a_larger_image_is_cut_down_to_the_grown_square_of_its_points(tmp_path):
    put(tmp_path / "a.png", picture(0, side=64))
    put(tmp_path / "a.pts", pts([(21, 31), (37, 35), (math.nan, math.nan)]).encode())
    (found,) = examples(f"landmarks:{tmp_path}")
    assert np.array_equal(decode(found.content)[0], pixels(0, side=64)[22:42, 18:38])
    assert found.points is not None and found.points[:4] == (2, 8, 18, 12)
    assert all(map(math.isnan, found.points[4:]))


def test_folders_are_parts_and_images_without_points_are_unlabelled(tmp_path):
    for i, place in enumerate(("train", "validation", "test", "deep")):
        put(tmp_path / place / "a.jpg", picture(i))
        put(tmp_path / place / "a.pts", pts(CORNERS).encode())
    put(tmp_path / "deep" / "b.png", picture(9))
    found = {
        e.example_id: (e.part, e.points is not None) for e in examples(f"landmarks:{tmp_path}")
    }
    assert found == {
        "deep/a.jpg": ("train", True),
        "deep/b.png": ("unlabelled", False),
        "test/a.jpg": ("test", True),
        "train/a.jpg": ("train", True),
        "validation/a.jpg": ("validation", True),
    }


def test_files_that_can_not_be_used_are_rows_with_a_fault(tmp_path):
    put(tmp_path / "a.png", picture(0))
    put(tmp_path / "a.pts", pts(CORNERS).encode())
    put(tmp_path / "b.png", picture(1))
    put(tmp_path / "b.pts", pts(CORNERS, count=3).encode())
    put(tmp_path / "c.png", b"no image")
    put(tmp_path / "c.pts", pts(CORNERS).encode())
    put(tmp_path / "d.pts", pts(CORNERS).encode())
    assert {e.example_id: e.fault for e in examples(f"landmarks:{tmp_path}")} == {
        "a.png": None,
        "b.png": "b.pts: n_points is 3, but there are 2 points",
        "c.png": "not an image",
        "d.pts": "there is no image of the same name beside it",
    }


def test_files_of_which_none_can_be_read_are_told_the_first_reason(tmp_path):
    put(tmp_path / "a.png", picture(0))
    put(tmp_path / "a.pts", b"\xff\xfe")
    with pytest.raises(DataError, match=r"no .pts file can be read, the first is .*a\.pts: .*must"):
        open_source(f"landmarks:{tmp_path}")
