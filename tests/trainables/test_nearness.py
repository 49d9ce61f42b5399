"""Compact rows and what they weigh: the selector, the two weightings, the trimmed prototype."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from tests.trainables.test_nearby import POOL, located
from trainables.beliefs import Beliefs
from trainables.nearness import DualWeights, fit_closeness
from trainables.neighbours import class_margins, prototypes
from trainables.pseudo_labels import PseudoLabeller
from trainables.row_maps import Tilt
from trainables.schedules import Linear, at_round
from trainables.selectors.fixed import Everything
from trainables.selectors.located import Compactness
from trainables.selectors.rules import Labelled
from trainables.selectors.sketch import Sketch, sketch
from trainables.targets import TargetSpec
from trainables.weighting import Dual, InverseClass, Neighbourhood

COUNTED = Labelled(np.array([5, 5, 5]))


def sketched(rows: Beliefs = POOL) -> Sketch:
    found = sketch(rows, pool_rows=len(rows), seed=0)
    return replace(found, rows=rows.log_probs, sample=rows)


def accepted(selector: Compactness, rows: Beliefs = POOL) -> np.ndarray:
    return selector.fit(sketched(rows), COUNTED, 0).accepts(rows)


def test_only_rows_nearest_to_their_own_class_are_compact():
    found = accepted(Compactness(drop=0.0, trim=0.0))
    means = prototypes(POOL.features, POOL.labels, 3)
    assert (found == (class_margins(POOL.features, means, POOL.labels) > 0)).all()


def test_the_share_of_each_class_with_the_smallest_margins_is_held_back():
    rows = located(num=90)
    held = ~accepted(Compactness(drop=0.5), rows)
    assert np.bincount(rows.labels[held]) == pytest.approx(np.bincount(rows.labels) / 2, abs=1)
    kept = accepted(Compactness(drop=0.2), rows)
    assert (kept >= accepted(Compactness(drop=0.5), rows)).all(), "less held back accepts more"


def test_a_share_may_move_over_rounds_and_a_floor_holds():
    moving = Compactness(drop=Linear(start=0.6, end=0.0), least_confidence=0.8)
    assert at_round(moving, 0, 3).drop == pytest.approx(0.6)
    assert (POOL.confidence[accepted(at_round(moving, 2, 3))] >= 0.8).all()


def test_rows_of_nan_and_rows_without_direction_are_not_compact():
    logs, features = POOL.log_probs.copy(), POOL.features.copy()
    logs[3], features[4] = np.nan, 0
    found = accepted(Compactness(drop=0.0), replace(POOL, log_probs=logs, features=features))
    assert not found[[3, 4]].any()


def test_a_single_row_and_two_classes_divide_by_nothing():
    alone = located(num=1, classes=2)
    close = fit_closeness(alone)
    assert close.scores(alone).tolist() == [0]
    assert (close.deviation == 0).all()


def test_a_trimmed_prototype_forgets_the_farthest_rows():
    features = np.array([[1, 0]] * 4 + [[-0.6, 0.8]], np.float32)
    labels = np.zeros(5, np.int64)
    assert prototypes(features, labels, 2, trim=0.2)[0] == pytest.approx([1, 0])
    assert prototypes(features, labels, 2)[0][1] > 0.1
    assert (prototypes(features, labels, 2, trim=0.2)[1] == 0).all()


def test_a_row_weighs_by_its_margin_and_by_its_neighbours_of_the_same_class():
    weights = Neighbourhood(k=5).fit(sketched(), Everything().fit(sketched(), COUNTED, 0))
    found = weights.of_rows(POOL, POOL)
    assert ((found > 0) & (found < 1)).all()
    margin = expit(fit_closeness(POOL).scores(POOL))
    shares = found / margin * 5
    assert shares == pytest.approx(shares.round(), abs=1e-4), "fifths of its neighbours"
    assert shares.max() == pytest.approx(5, abs=1e-4)


def test_the_weights_of_dpa_are_one_where_both_agree_on_the_best():
    told = Beliefs.of_log_probs(["a", "b"], np.float32(np.log([[0.7, 0.3], [0.4, 0.6]])))
    told = replace(told, features=np.eye(2, dtype=np.float16))
    seen = replace(told, labels=np.array([0, 0]))
    found = DualWeights(np.eye(2, dtype=np.float32), 1.0).of(told, seen)
    assert found == pytest.approx([1.0, 0.4 / 0.6 * np.exp(-1)], abs=1e-5)


@pytest.mark.parametrize("weighting", [Neighbourhood(), Dual()], ids=str)
def test_parts_of_the_pool_are_labelled_and_weighed_as_the_whole(weighting):
    rule = Compactness(drop=0.3).fit(sketched(), COUNTED, 0)
    weights = weighting.fit(sketched(), rule)
    labeller = PseudoLabeller(Tilt(), rule, weights, TargetSpec(weight=weighting))
    whole = labeller.of(POOL)
    for part in np.array_split(np.arange(60)[::-1], 7):
        found = labeller.of(POOL.taken(part))
        assert (found.accepted == whole.accepted[part]).all()
        assert (found.weights == whole.weights[part]).all()
    assert ((whole.weights[whole.accepted] > 0) & (whole.weights[whole.accepted] <= 1)).all()


def test_the_rarest_class_is_counted_among_compact_rows():
    rule = Compactness(drop=0.5).fit(sketched(), COUNTED, 0)
    rows = np.bincount(POOL.labels[rule.accepts(POOL)], minlength=3)
    expected = rows.min() / rows
    assert InverseClass().fit(sketched(), rule).by_class == pytest.approx(expected)


def test_without_a_sample_it_is_refused_in_words():
    with pytest.raises(ValueError, match="no sample of rows"):
        Compactness().fit(sketch(POOL, pool_rows=60, seed=0), COUNTED, 0)
