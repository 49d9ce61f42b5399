"""Mixing pool rows: shares, who counts, what is blended."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.trainables.students import (
    BATCH,
    CLASSES,
    FROZEN,
    LOG_CLASSES,
    STILL,
    constant,
    data,
    train,
    undecided,
)
from trainables.loader import Loader
from trainables.objective import ConsistencyTerm, Objective
from trainables.pool_mixing import AnchorMix, PairMix
from trainables.pseudo_labels import PseudoLabels
from trainables.randomness import numpy_stream
from trainables.selectors.fixed import Threshold
from trainables.student import TrainingSpec
from trainables.targets import TargetSpec
from trainables.weighting import Confidence
from trainables.worker import Worker

NOTHING = np.zeros(0, np.int64)


def told(probs: list[list[float]], threshold: float, weights: list[float] | None = None):
    """Pseudo-labels with soft targets of these rows."""
    rows = np.array(probs, np.float32)
    sure = rows.max(1)
    accepted = sure >= threshold
    counts = np.array(weights or [1.0] * len(rows), np.float32) * accepted
    return PseudoLabels(accepted, rows.argmax(1), rows, counts, sure)


class Swap:
    """A stream whose permutation exchanges two rows."""

    def permutation(self, num_rows: int) -> np.ndarray:
        return np.arange(num_rows)[::-1].copy()


def test_a_pair_is_shared_by_confidence_and_counts_if_one_of_it_does():
    found = told([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], threshold=0.8)
    plan = PairMix().mixture(found, NOTHING, Swap(), 0.0)
    assert plan.partners.tolist() == [2, 1, 0]
    assert plan.share == pytest.approx([0.9 / 1.4, 0.5, 0.5 / 1.4])
    assert plan.found.accepted.tolist() == [True, False, True], "a sure partner lets a row in"
    assert plan.found.weights.tolist() == [1, 0, 1]
    assert plan.found.targets[0] == pytest.approx([(0.81 + 0.25) / 1.4, (0.09 + 0.25) / 1.4])
    assert plan.found.targets[0] == pytest.approx(plan.found.targets[2]), "one blend, two views"
    assert not plan.labelled.any()


def test_a_row_mixed_with_itself_stays_itself():
    found = told([[0.4, 0.6], [0.9, 0.1], [0.7, 0.3]], threshold=0.0)
    plan = PairMix().mixture(found, NOTHING, Swap(), 0.0)
    assert plan.share[1] == 0.5
    assert plan.found.targets[1] == pytest.approx(found.targets[1])


def test_a_pair_counts_by_the_larger_weight():
    found = told([[0.9, 0.1], [0.3, 0.7]], threshold=0.0, weights=[0.2, 0.6])
    plan = PairMix().mixture(found, NOTHING, Swap(), 0.0)
    assert plan.found.weights == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize("rule", [PairMix(), AnchorMix(anchors_from=0)])
def test_rows_without_numbers_take_no_part(rule):
    found = told([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8], [0.6, 0.4]], threshold=0.5)
    labels = np.array([0, 1])
    for seed in range(20):
        plan = rule.mixture(found, labels, numpy_stream(seed, "x"), 1.0)
        assert np.isfinite(plan.found.mass()).all()
        assert not plan.found.accepted[1]
        assert plan.found.weights[1] == 0


def test_one_row_alone_is_mixed_with_itself():
    found = told([[0.3, 0.7]], threshold=0.5)
    plan = PairMix().mixture(found, NOTHING, numpy_stream(0, "x"), 0.0)
    assert plan.found.targets[0] == pytest.approx([0.3, 0.7])
    anchored = AnchorMix().mixture(found, np.array([0]), numpy_stream(0, "x"), 0.0)
    assert anchored.found.targets[0] == pytest.approx(
        anchored.share[0] * np.array([0.3, 0.7]) + (1 - anchored.share[0]) * np.array([1, 0])
    )


def test_the_trusted_row_makes_up_at_least_half_and_names_its_class():
    found = told([[0.3, 0.7], [0.6, 0.4], [0.5, 0.5]], threshold=2.0)
    labels, seen = np.array([1, 0]), set()
    for seed in range(40):
        plan = AnchorMix().mixture(found, labels, numpy_stream(seed, "x"), 1.0)
        assert plan.labelled.all(), "no row reaches the selector: no anchors"
        assert (plan.share <= 0.5).all()
        own = labels[plan.partners]
        assert (plan.found.targets[np.arange(3), own] >= 0.5).all()
        assert plan.found.targets.sum(1) == pytest.approx([1, 1, 1], rel=1e-5)
        assert plan.found.accepted.all(), "every row counts, whatever the selector says"
        seen |= set(plan.partners.tolist())
    assert seen == {0, 1}


def test_anchors_join_the_labelled_rows_in_the_second_stage():
    found = told([[0.05, 0.95], [0.6, 0.4], [0.99, 0.01]], threshold=0.9)
    early = [
        AnchorMix().mixture(found, np.array([0]), numpy_stream(s, "x"), 0.4) for s in range(20)
    ]
    assert all(plan.labelled.all() for plan in early)
    late = [AnchorMix().mixture(found, np.array([0]), numpy_stream(s, "x"), 0.5) for s in range(40)]
    partners = {
        int(p) for plan in late for p, known in zip(plan.partners, plan.labelled, strict=True)
        if not known
    }  # fmt: skip
    assert partners == {0, 2}, "rows below the selector's bound are no anchors"
    for plan in late:
        for row in np.flatnonzero(~plan.labelled):
            assert plan.found.targets[row, found.labels[plan.partners[row]]] >= 0.5


def terms_of(term: ConsistencyTerm, model, steps: int = 1) -> dict[str, float]:
    goal = Objective(consistency=term, weak=STILL, strong=STILL)
    return train(TrainingSpec(batch=BATCH, objective=goal, optimiser=FROZEN), model, steps=steps)[1]


def test_blends_are_trained_towards_with_the_mass_of_their_targets():
    probs = [0.7, 0.1, 0.1, 0.1]
    soft = TargetSpec(kind="soft")
    term = ConsistencyTerm(selector=Threshold(threshold=0.2), targets=soft, mix=PairMix())
    entropy = -sum(p * np.log(p) for p in probs)
    assert terms_of(term, constant(probs))["consistency"] == pytest.approx(entropy, rel=1e-4)
    anchored = term.model_copy(update={"selector": Threshold(threshold=1.0), "mix": AnchorMix()})
    found = terms_of(anchored, undecided())
    assert found["consistency"] == pytest.approx(LOG_CLASSES, rel=1e-5)
    assert found["consistency_accepted"] == 1


def test_the_partners_view_is_the_one_that_its_own_row_has():
    goal = Objective(consistency=ConsistencyTerm(mix=PairMix()))
    whole = Loader(BATCH, goal, data(), CLASSES, seed=3, worker=Worker())
    pairs = whole.pool_pairs(4)
    assert torch.equal(whole.pool_views(4, np.array([5, 0, 5])), pairs.strong[[5, 0, 5]])
    part = Loader(BATCH, goal, data(), CLASSES, seed=3, worker=Worker(1, 2))
    assert torch.equal(part.pool_views(4, np.array([2, 6])), pairs.strong[[2, 6]])
    own, labels = whole.labelled_pairs(4)
    assert torch.equal(part.labelled_views(4, np.array([1, 4])), own.strong[[1, 4]])
    assert part.labels(4).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mix": {"kind": "pairs"}, "debias": True}, "debias and fairness need apart"),
        ({"mix": {"kind": "anchors"}, "fairness": 0.1}, "debias and fairness need apart"),
        (
            {"mix": {"kind": "anchors"}, "targets": {"weight": {"kind": "confidence"}}},
            "set targets.weight to one",
        ),
        ({"mix": {"kind": "anchors", "alpha": 0}}, "greater than 0"),
        ({"mix": {"kind": "mixup"}}, "'pairs', 'anchors'"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        ConsistencyTerm.model_validate(fields)


def test_weights_of_pairs_reach_the_loss():
    weighed = TargetSpec(kind="soft", weight=Confidence())
    term = ConsistencyTerm(selector=Threshold(threshold=0.2), targets=weighed, mix=PairMix())
    assert terms_of(term, undecided())["consistency"] == pytest.approx(LOG_CLASSES / 4, rel=1e-5)
