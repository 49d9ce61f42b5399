"""The expected reward: its pairs, what it learns, and that each row is judged on its own."""

from dataclasses import replace

import numpy as np
import pytest

from tests.trainables.test_nearby import located
from tests.trainables.test_nearness import sketched
from trainables.beliefs import Beliefs
from trainables.nearness import Nearness
from trainables.neighbours import cosines_to, prototypes
from trainables.reward import RIGHT, WRONG, fit_reward, pairs_of, views_of
from trainables.selectors.located import ExpectedReward
from trainables.selectors.rules import Labelled


def told(num: int = 120, seed: int = 0) -> tuple[Labelled, Beliefs]:
    """Labelled rows with out-of-fold beliefs of which about a third err, and a pool."""
    rows = located(seed, num)
    truth = rows.labels.copy()
    unsure = rows.confidence < 0.6
    truth[unsure] = (truth[unsure] + 1) % 3
    anchors = prototypes(rows.features, truth, 3)
    near = Nearness(np.float32(cosines_to(anchors, rows.features)), anchors)
    counted = np.bincount(truth, minlength=3)
    return Labelled(counted, rows, truth, near), located(seed + 1, 300)


LABELLED, POOL = told()


def pairs(wrong: int = 2, seed: int = 0):
    return pairs_of(LABELLED.beliefs, LABELLED.nearness.cosines, LABELLED.labels, wrong, seed=seed)


def test_every_row_comes_with_its_label_its_error_and_drawn_wrong_ones():
    found = pairs()
    missed = int((LABELLED.beliefs.labels != LABELLED.labels).sum())
    assert len(found.labels) == 3 * 120 + missed
    assert (found.labels[:120] == LABELLED.labels).all()
    assert (found.targets[:120] == RIGHT).all()
    assert (found.targets[120:] == WRONG).all()
    for block in (found.labels[-240:-120], found.labels[-120:]):
        assert (block != LABELLED.labels).all()


def test_wrong_labels_are_drawn_where_nothing_else_is_probable_and_of_two_classes():
    sure = Beliefs.of_log_probs(["a", "b"], np.float32([[0, -np.inf], [-np.inf, 0]]))
    found = pairs_of(sure, np.zeros((2, 2)), np.array([0, 1]), 3, seed=0)
    assert found.labels[2:].tolist() == [1, 0] * 3


def test_rows_of_nan_teach_nothing():
    logs = LABELLED.beliefs.log_probs.copy()
    logs[5] = np.nan
    rows = Beliefs.of_log_probs(LABELLED.beliefs.example_ids, logs)
    found = pairs_of(rows, LABELLED.nearness.cosines, LABELLED.labels, 1, seed=0)
    assert np.isfinite(found.views).all()
    assert (found.targets == RIGHT).sum() == 119


def test_a_label_is_seen_beside_the_best_other_class():
    found = views_of(np.array([[0.7, 0.2, 0.1]]), np.array([[0.1, 0.5, 0.9]]), np.array([1]))
    assert found.tolist() == [[0.2, 0.7, 0.5, 0.9]]


def test_right_labels_are_expected_to_be_righter():
    rule = ExpectedReward().fit(sketched(POOL), LABELLED, 0)
    reward = rule.also.of(POOL)
    assert ((reward > 0) & (reward < 1)).all()
    likely = POOL.confidence >= 0.6  # those that are right, by how the labelled rows were made
    assert reward[likely].mean() > reward[~likely].mean() + 0.1
    accepted = rule.accepts(POOL)
    assert likely[accepted].mean() > likely.mean() + 0.1


def test_rows_below_the_mean_or_the_share_told_are_held_back():
    rule = ExpectedReward().fit(sketched(POOL), LABELLED, 0)
    reward = rule.also.of(POOL)
    assert (rule.accepts(POOL) == (reward >= reward.mean(dtype=np.float64))).all()
    kept = ExpectedReward(drop=0.25).fit(sketched(POOL), LABELLED, 0).accepts(POOL)
    assert kept.mean() == pytest.approx(0.75, abs=0.01)
    assert ExpectedReward(drop=0).fit(sketched(POOL), LABELLED, 0).accepts(POOL).all()


def test_each_row_is_judged_on_its_own():
    rule = ExpectedReward().fit(sketched(POOL), LABELLED, 0)
    whole = rule.also.of(POOL)
    for part in np.array_split(np.random.default_rng(0).permutation(300), 7):
        assert (rule.also.of(POOL.taken(part)) == whole[part]).all()
    for row in (0, 17):
        assert rule.also.of(POOL.taken(np.array([row])))[0] == whole[row]


def test_the_same_seed_gives_the_same_reward():
    one, other = (ExpectedReward().fit(sketched(POOL), LABELLED, 3) for _ in range(2))
    assert (one.also.of(POOL) == other.also.of(POOL)).all()
    different = ExpectedReward().fit(sketched(POOL), LABELLED, 4)
    assert (one.also.of(POOL) != different.also.of(POOL)).any()


def test_rows_of_nan_are_never_accepted():
    logs = POOL.log_probs.copy()
    logs[2] = np.nan
    rule = ExpectedReward(drop=0).fit(sketched(POOL), LABELLED, 0)
    assert not rule.accepts(replace(POOL, log_probs=logs))[2]


def test_a_single_labelled_row_and_an_absent_class_are_enough_to_fit():
    found = pairs_of(
        LABELLED.beliefs.taken(np.array([0])),
        LABELLED.nearness.cosines[:1],
        LABELLED.labels[:1],
        1,
        seed=0,
    )
    reward = fit_reward(
        found, np.zeros((3, 8), np.float32), hidden=4, steps=5, learning_rate=0.01, seed=0
    )
    assert np.isfinite(reward.of(POOL)).all()


def test_without_what_it_learns_from_it_is_refused_in_words():
    with pytest.raises(ValueError, match="needs out-of-fold predictions with their nearness"):
        ExpectedReward().fit(sketched(POOL), replace(LABELLED, nearness=None), 0)
    none = pairs_of(
        LABELLED.beliefs.taken(np.zeros(0, int)), np.zeros((0, 3)), np.zeros(0, int), 1, seed=0
    )
    with pytest.raises(ValueError, match="no labelled row"):
        fit_reward(none, np.zeros((3, 8)), hidden=4, steps=5, learning_rate=0.01, seed=0)
