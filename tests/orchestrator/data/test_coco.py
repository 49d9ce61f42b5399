"""COCO keypoints files: one row an annotation, cut out where an image has several."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.data.sources import open_source
from orchestrator.errors import DataError
from tests.orchestrator.data.marked import NAMES, complains_or_reads, examples
from tests.orchestrator.data.pictures import picture, pixels, put
from trainables.images import decode

KEYPOINTS = [1, 2, 2, 3, 4, 1, 0, 0, 0]
CATEGORY = {"id": 1, "name": "fly", "keypoints": list(NAMES)}
IMAGES = [{"id": 5, "file_name": "a.png"}]
MARK = {"id": 9, "image_id": 5, "category_id": 1, "keypoints": KEYPOINTS}


def write(folder: Path, name: str = "c.json", **changed: Any) -> str:
    """A file with one annotation of one image, which is written as well."""
    content = {"images": IMAGES, "annotations": [MARK], "categories": [CATEGORY]} | changed
    put(folder / "a.png", picture(0, side=64))
    (folder / name).write_text(json.dumps(content))
    return f"landmarks:{folder}"


def faults(text: str) -> dict[str, str | None]:
    return {e.example_id: e.fault for e in examples(text)}


def test_the_only_annotation_of_an_image_is_the_image_with_points(tmp_path):
    text = write(tmp_path)
    (found,) = examples(text)
    assert (found.example_id, found.part, found.fault) == ("a.png-9", "train", None)
    assert found.content == picture(0, side=64)
    assert found.points is not None and found.points[:4] == (1, 2, 3, 4)
    assert all(map(math.isnan, found.points[4:]))
    assert open_source(text).classes == NAMES


def test_one_of_several_is_cut_out_with_its_points(tmp_path):
    left, right = (
        MARK | {"id": 1, "bbox": [10, 20, 20, 10], "keypoints": [10, 20, 2, 30, 30, 2, 0, 0, 0]},
        MARK | {"id": 2, "bbox": [54, 0, 10, 10], "keypoints": [60, 5, 2] * 3},
    )
    first, second = examples(write(tmp_path, annotations=[left, right]))
    assert np.array_equal(decode(first.content)[0], pixels(0, side=64)[13:37, 8:32])
    assert first.points is not None and first.points[:4] == (2, 7, 22, 17)
    assert np.array_equal(decode(second.content)[0], pixels(0, side=64)[0:11, 53:64])
    assert second.points == (7, 5) * 3
    assert (first.example_id, second.example_id) == ("a.png-1", "a.png-2")


def test_what_is_not_marked_is_unlabelled(tmp_path):
    put(tmp_path / "images" / "b.png", picture(1))
    put(tmp_path / "c.png", picture(2))
    images = [*IMAGES, {"id": "b", "file_name": "b.png"}]
    bare = MARK | {"keypoints": [0] * 9}
    found = examples(write(tmp_path, images=images, annotations=[bare]))
    assert [(e.example_id, e.part, e.points) for e in found] == [
        ("a.png-9", "unlabelled", None),
        ("b.png", "unlabelled", None),
        ("c.png", "unlabelled", None),
    ]


def test_a_file_called_test_is_the_test_part(tmp_path):
    assert [e.part for e in examples(write(tmp_path, "test.json"))] == ["test"]


def test_annotations_without_keypoints_are_passed_over(tmp_path):
    box = {"id": 10, "image_id": 5, "category_id": 2, "bbox": [0, 0, 1, 1]}
    text = write(tmp_path, annotations=[MARK, box], categories=[CATEGORY, {"id": 2, "name": "x"}])
    assert list(faults(text)) == ["a.png-9"]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"keypoints": [1, 2, 2]}, "keypoints must be 9 numbers x, y, v"),
        ({"keypoints": "abc"}, "keypoints must be 9 numbers x, y, v"),
        ({"keypoints": [True] * 9}, "keypoints must be 9 numbers x, y, v"),
        ({"keypoints": [10**400] * 9}, "keypoints must be 9 numbers x, y, v"),
        ({"keypoints": [1, 2, 7] * 3}, "v of a keypoint is 7, must be 0, 1 or 2"),
    ],
)
def test_an_annotation_that_can_not_be_used_is_a_row_with_a_fault(tmp_path, changed, fault):
    text = write(tmp_path, annotations=[MARK | changed])
    assert faults(text) == {"a.png-9": fault}


@pytest.mark.parametrize("box", [None, [1, 2], [90, 90, 5, 5], [0, 0, 0, 0], [0, 0, math.inf, 1]])
def test_one_of_several_needs_a_box_inside_the_image(tmp_path, box):
    both = [MARK | {"id": 1, "bbox": box}, MARK | {"id": 2, "bbox": [0, 0, 9, 9]}]
    found = faults(write(tmp_path, annotations=both))
    assert found == {
        "a.png-1": "one of several in its image, and without a bbox inside it",
        "a.png-2": None,
    }


@pytest.mark.parametrize("name", ["gone.png", "../a.png", "/a.png", "x" * 5000])
def test_an_image_that_is_not_there_or_lies_outside_is_a_row_with_a_fault(tmp_path, name):
    images = [*IMAGES, {"id": 6, "file_name": name}]
    marks = [MARK, MARK | {"id": 1, "image_id": 6}]
    found = faults(write(tmp_path, images=images, annotations=marks))
    assert found == {"a.png-9": None, f"{name}-1": "there is no such image file"}


def test_several_annotations_of_a_broken_image_all_have_its_fault(tmp_path):
    both = [MARK | {"id": i, "bbox": [0, 0, 9, 9]} for i in (1, 2)]
    text = write(tmp_path, annotations=both)
    put(tmp_path / "a.png", b"no image")
    assert faults(text) == {"a.png-1": "not an image", "a.png-2": "not an image"}


def test_every_fault_of_the_file_is_named_and_the_rest_are_counted(tmp_path):
    text = write(
        tmp_path,
        images=[*IMAGES, {"id": 5, "file_name": "b.png"}, {"id": 7}, 3],
        annotations=[{"id": 1}, MARK | {"image_id": 8}, MARK | {"id": None}, 4],
        categories=[CATEGORY, {"keypoints": ["a"]}],
    )
    with pytest.raises(DataError) as caught:
        open_source(text)
    assert str(caught.value) == (
        f"{tmp_path}/c.json: categories have other keypoints: a / nose, left, right; "
        "images[1]: the id 5 is taken by a.png; images[2] needs an id and a file_name; "
        "images[3] needs an id and a file_name; annotations[0] needs an id and an image_id; "
        "and 3 more"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "it has no list images, annotations, categories"),
        ("[]", "it has no list images, annotations, categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "it has no list annotations"),
        ('{"images": [], "annotations": [], "categories": []}', "no category has keypoints"),
        ("{", "can't be read as JSON"),
    ],
)
def test_a_file_of_another_form_says_what_it_lacks(tmp_path, content, said):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(DataError, match=said):
        open_source(f"landmarks:{tmp_path}/c.json")


def test_files_with_other_names_of_points_are_named(tmp_path):
    write(tmp_path)
    category = CATEGORY | {"keypoints": ["a", "b", "c"]}
    text = write(tmp_path, "d.json", categories=[category])
    with pytest.raises(DataError, match=r"other names: c\.json: nose, left, right; d\.json: a, b"):
        open_source(text)


strange = [None, True, -1, 0.5, math.nan, math.inf, 10**400, "", "\ud800", [], {}]
usual = [5, 9, "a.png", [5] * 4, KEYPOINTS, [1, 1, 2] * 3, list(NAMES), ["a"]]
odd = st.sampled_from(strange + usual)
entries = st.lists(
    odd
    | st.dictionaries(
        st.sampled_from(["id", "image_id", "file_name", "keypoints", "bbox", "category_id"]), odd
    )
    | st.sampled_from([IMAGES[0], MARK, CATEGORY, MARK | {"bbox": [1, 1, 5, 5]}]),
    max_size=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries, entries, entries)
def test_whatever_the_lists_hold_they_are_read_or_complained_of(
    tmp_path_factory, images, annotations, categories
):
    folder = tmp_path_factory.mktemp("coco")
    text = write(folder, images=images, annotations=annotations, categories=categories)
    complains_or_reads(lambda: examples(text))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.fixed_dictionaries(
            {"keypoints": odd, "bbox": odd | st.lists(st.floats(), min_size=4, max_size=4)}
        ),
        max_size=4,
    )
)
def test_whatever_annotations_hold_each_is_a_row(tmp_path_factory, changed):
    folder = tmp_path_factory.mktemp("coco")
    marks = [MARK | {"id": i} | change for i, change in enumerate(changed)]
    found = examples(write(folder, annotations=marks))
    kept = [mark for mark in marks if mark["keypoints"] is not None]
    assert len(found) == max(len(kept), 1)
    for example in found:
        assert example.fault or decode(example.content).size
