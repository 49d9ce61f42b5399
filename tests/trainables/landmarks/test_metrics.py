"""How far points lie from the true ones: numbers by hand, and laws."""

import math

import numpy as np
import pytest

from trainables.landmarks.metrics import NOT_FOUND, by_point, distances, measure

NAN = float("nan")
NONE = [NAN, NAN]
TRUE = np.array([[[0.0, 0], [3, 4], [6, 0]], [[0, 0], [0, 10], NONE]], np.float32)
FOUND = np.array([[[0.0, 1], [3, 4], [6, 3]], [[3, 4], [0, 10], [9, 9]]], np.float32)


def far(normaliser) -> np.ndarray:
    return distances(FOUND, TRUE, normaliser)


def test_distances_over_a_number_of_pixels_are_as_by_hand():
    assert far(20.0) == pytest.approx(np.array([[0.05, 0, 0.15], [0.25, 0, NAN]]), nan_ok=True)


def test_distances_over_two_points_are_as_by_hand():
    assert far((0, 1)) == pytest.approx(np.array([[0.2, 0, 0.6], [0.5, 0, NAN]]), nan_ok=True)


def test_distances_over_the_box_are_as_by_hand():
    diagonal = math.sqrt(36 + 16)
    expected = [[1 / diagonal, 0, 3 / diagonal], [0.5, 0, NAN]]
    assert far("box") == pytest.approx(np.array(expected), nan_ok=True)


def test_a_row_without_a_normaliser_takes_the_mean_of_the_others():
    true = np.concatenate([TRUE, [[[0.0, 0], NONE, NONE]], [[[1.0, 1], [1, 1], NONE]]])
    found = np.concatenate([FOUND, [[[1.5, 0], NONE, NONE]], [[[1.0, 1], [1, 4], NONE]]])
    pair = distances(found, true, (0, 1))
    assert pair[2, 0] == pytest.approx(1.5 / 7.5)
    assert pair[3, 1] == pytest.approx(3 / 7.5)
    box = distances(found, true, "box")
    assert box[2, 0] == pytest.approx(1.5 / ((math.sqrt(52) + 10) / 2))


def test_the_box_stands_in_where_no_row_has_two_points_and_a_pixel_where_none_has_a_box():
    boxed = np.array([[[1.0, 1.0], NONE, [4.0, 5.0]]])
    assert distances(boxed + 2, boxed, (0, 1))[0, 0] == pytest.approx(math.sqrt(8) / 5)
    alone = np.array([[[1.0, 1.0], NONE]])
    assert distances(alone + 2, alone, (0, 1))[0, 0] == pytest.approx(math.sqrt(8))
    assert distances(alone + 2, alone, "box")[0, 0] == pytest.approx(math.sqrt(8))


def test_a_known_point_that_is_not_found_is_as_far_as_the_rule_says():
    found = FOUND.copy()
    found[0, 0] = NAN
    away = distances(found, TRUE, 20.0)
    assert away[0, 0] == NOT_FOUND
    assert np.isnan(away[1, 2])


@pytest.mark.parametrize("normaliser", ["box", 20.0, (0, 1)])
def test_distances_do_not_change_when_everything_grows_or_moves(normaliser):
    once = far(normaliser)
    grows = 60.0 if normaliser == 20.0 else normaliser
    grown = distances(3 * FOUND + 7, 3 * TRUE + 7, grows)
    assert grown == pytest.approx(once, nan_ok=True)


def test_the_measures_are_as_by_hand():
    away = np.array([[0.05, 0.0, 0.15], [0.25, 0.0, NAN], [NAN, NAN, NAN]])
    assert measure(away, limit=0.1) == pytest.approx(
        {
            "rows": 2,
            "points": 5,
            "nme": 0.45 / 5,
            "auc": (0.5 + 1 + 1) / 5,
            "pck": 3 / 5,
            "failure_rate": 1 / 2,
            "score": 0.5,
        }
    )


def test_the_area_is_that_under_the_curve_of_shares():
    away = np.random.default_rng(0).exponential(0.05, (40, 5))
    limits = (np.arange(20_000) + 0.5) / 20_000 * 0.08
    curve = np.searchsorted(np.sort(away.ravel()), limits, side="right") / away.size
    assert measure(away, limit=0.08)["auc"] == pytest.approx(curve.mean(), abs=1e-4)


def test_perfect_points_have_the_best_measures_and_far_ones_the_worst():
    best, worst = measure(np.zeros((3, 2))), measure(np.full((3, 2), 0.5))
    assert (best["nme"], best["auc"], best["pck"], best["failure_rate"]) == (0, 1, 1, 0)
    assert (worst["nme"], worst["auc"], worst["pck"], worst["failure_rate"]) == (0.5, 0, 0, 1)


def test_the_order_of_rows_and_points_has_no_say():
    away = np.random.default_rng(0).exponential(0.1, (20, 5))
    away[3:7, 2] = NAN
    assert measure(away[::-1, ::-1]) == pytest.approx(measure(away))


def test_nothing_known_is_refused():
    with pytest.raises(ValueError, match="no point is known"):
        measure(np.full((2, 3), NAN))


def test_each_point_has_the_mean_of_the_rows_that_know_it():
    found = by_point(np.array([[0.2, NAN, 0.3], [0.4, NAN, NAN]]))
    assert found == [pytest.approx(0.3), None, pytest.approx(0.3)]
