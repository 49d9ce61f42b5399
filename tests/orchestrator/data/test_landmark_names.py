"""What files say of points: how distances are divided, and faults that are named at once."""

import json

import pytest

from orchestrator.data.landmark_names import read_landmarks
from orchestrator.errors import DataError

NAMES = ["left", "right", "chin"]


def read(folder, **told):
    (folder / "landmarks.json").write_text(json.dumps({"names": NAMES} | told))
    return read_landmarks(folder)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (32, 32.0),
        (7.5, 7.5),
        ("box", "box"),
        (["left", "chin"], (0, 2)),
        ([0, "right"], (0, 1)),
    ],
)
def test_distances_are_divided_by_pixels_by_the_box_or_by_two_points(tmp_path, given, found):
    assert read(tmp_path, normaliser=given).task.normaliser == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "normaliser is 0 pixels, must be more than 0"),
        (-3.5, "normaliser is -3.5 pixels, must be more than 0"),
        (float("inf"), "normaliser is inf pixels, must be more than 0"),
        ("image", "normaliser is 'image', must be two points, 'box' or a number of pixels"),
        (True, "normaliser is True, must be two points, 'box' or a number of pixels"),
        (["left"], "normaliser must be two points, found"),
        (["left", "nose"], "normaliser: there is no point 'nose'"),
    ],
)
def test_what_distances_can_not_be_divided_by_is_refused(tmp_path, given, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, normaliser=given)


def test_points_of_a_pair_change_places_in_the_mirror_image(tmp_path):
    assert read(tmp_path, flip_pairs=[["left", "right"]]).task.mirrored == (1, 0, 2)


def test_all_faults_are_named_at_once(tmp_path):
    with pytest.raises(DataError, match=r"unknown key 'nmaes'.*'nose'.*0 pixels"):
        read(tmp_path, nmaes=[], flip_pairs=[["left", "nose"]], normaliser=0)
