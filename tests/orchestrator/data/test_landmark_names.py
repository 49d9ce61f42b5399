"""Names of points: out of two files, by name or number, every fault at once."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.data.landmark_names import called, numbered, read_landmarks
from orchestrator.errors import DataError
from tests.orchestrator.data.marked import NAMES, complains_or_reads, write_names

loose = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.sampled_from([*NAMES, "box"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


def test_points_are_paired_by_name_and_distances_divided_by_number(tmp_path):
    write_names(tmp_path)
    found = read_landmarks(tmp_path)
    assert found is not None
    assert found.names == NAMES
    assert found.task.mirrored == (0, 2, 1)
    assert found.task.normaliser == (1, 2)


def test_the_other_way_round_is_the_same(tmp_path):
    write_names(tmp_path)
    first = read_landmarks(tmp_path)
    write_names(tmp_path, flip_pairs=[[2, 1]], normaliser=["left", "right"])
    assert read_landmarks(tmp_path) == first


def test_pairs_and_normaliser_may_be_left_out(tmp_path):
    (tmp_path / "landmarks.json").write_text('{"names": ["a", "b"]}')
    assert read_landmarks(tmp_path) == called(("a", "b"))


@pytest.mark.parametrize("word", ["box", 30.0])
def test_distances_may_be_divided_by_the_box_or_the_image(tmp_path, word):
    write_names(tmp_path, normaliser=word)
    found = read_landmarks(tmp_path)
    assert found is not None and found.task.normaliser == word


def test_a_manifest_may_say_it_among_other_things_and_the_other_file_comes_first(tmp_path):
    inside = {"names": ["a"], "views": {"top": [0]}}
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "x", "landmarks": inside}))
    assert read_landmarks(tmp_path) == called(("a",))
    write_names(tmp_path)
    found = read_landmarks(tmp_path)
    assert found is not None and found.names == NAMES


def test_nothing_is_known_without_such_a_file(tmp_path):
    assert read_landmarks(tmp_path) is None
    (tmp_path / "manifest.json").write_text('{"name": "x"}')
    assert read_landmarks(tmp_path) is None
    assert numbered(2).names == ("point-0", "point-1")
    assert numbered(2).task.normaliser == "box"


def test_every_fault_is_named_at_once(tmp_path):
    write_names(
        tmp_path,
        flip_pairs=[["left", "rigth"], [0, 0], [1, 2], ["nose", 1], 7],
        normaliser="boxes",
        flips=[],
    )
    with pytest.raises(DataError) as caught:
        read_landmarks(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/landmarks.json: unknown key 'flips', known: names, flip_pairs, normaliser; "
        "flip_pairs[0]: there is no point 'rigth', only 3 by name or number; "
        "flip_pairs[1]: the two points are the same, 0; "
        "flip_pairs[3]: 'left' is in another pair already; "
        "flip_pairs[4] must be two points, found 7; "
        "normaliser is 'boxes', must be two points, 'box' or a number of pixels"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"names": []}, "names must be a list of the points' names"),
        ({"names": "nose"}, "names must be a list of the points' names"),
        ({"names": ["a", 3]}, "names must be texts, found 3"),
        ({"names": ["a", " "]}, "names must be texts, found ' '"),
        ({"names": ["a", "\ud800"]}, "names must be plain texts"),
        ({"names": ["a", "b", "a"]}, "'a' stands in names 2 times"),
        ({"flip_pairs": 3}, "flip_pairs must be a list of pairs"),
        ({"normaliser": [0]}, r"normaliser must be two points, found \[0\]"),
        ({"normaliser": [0, 3]}, "normaliser: there is no point 3, only 3"),
        ({"normaliser": [0, True]}, "normaliser: there is no point True"),
        ({"normaliser": ["nose", 0]}, "normaliser: the two points are the same, 'nose'"),
    ],
)
def test_each_fault_says_what_is_needed(tmp_path, changed, said):
    write_names(tmp_path, **changed)
    with pytest.raises(DataError, match=said):
        read_landmarks(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 9999])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    (tmp_path / "landmarks.json").write_bytes(content)
    with pytest.raises(DataError, match=r"landmarks\.json can't be read as JSON"):
        read_landmarks(tmp_path)


@settings(deadline=None, max_examples=50)
@given(loose, loose, loose)
def test_whatever_the_file_holds_it_is_read_or_complained_of(
    tmp_path_factory, names, pairs, normaliser
):
    folder = tmp_path_factory.mktemp("names")
    content = {"names": names, "flip_pairs": pairs, "normaliser": normaliser}
    (folder / "landmarks.json").write_text(json.dumps(content))
    complains_or_reads(lambda: read_landmarks(folder))
    (folder / "landmarks.json").write_text(json.dumps(pairs))
    complains_or_reads(lambda: read_landmarks(folder))
