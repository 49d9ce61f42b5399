"""Scores of classes, by hand."""

import numpy as np
import pytest

from trainables.tasks.classification import calibration_error, measure


def test_scores_of_three_rows_by_hand():
    probs = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]], np.float32)
    scores = measure(np.array([0, 1, 1]), np.log(probs))
    assert scores["rows"] == 3
    assert scores["score"] == scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.7]).mean(), abs=1e-6)


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    confidence = np.array([0.95, 0.95, 0.55, 0.55], np.float32)
    right = np.array([True, True, True, False])
    expected = (2 * abs(0.95 - 1) + 2 * abs(0.55 - 0.5)) / 4
    assert calibration_error(confidence, right, bins=10) == pytest.approx(expected, abs=1e-6)


def test_perfect_confidence_that_is_right_has_no_calibration_error():
    assert calibration_error(np.ones(5, np.float32), np.ones(5, bool)) == 0
