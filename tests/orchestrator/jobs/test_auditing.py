"""Audits: sums over shards, and what whole runs report of their selections."""

import numpy as np
import pytest
from scipy.special import xlogy

from orchestrator.jobs.auditing import Tally, divergence, gather_audit
from orchestrator.jobs.job import AuditJob, ImageForm
from tests.orchestrator.helpers import play, table_of
from trainables.tasks.kinds import Classes

JOB = AuditJob(
    store="",
    data="",
    address="",
    task=Classes(num_classes=3),
    form=ImageForm(size=8, channels=1),
    selection="S",
    predictions="P",
    labelled_rows=(2, 2, 4),
)
NOTHING = {"known": (0, 0, 0), "right": (0, 0, 0), "predicted": (0, 0, 0), "accepted": (0, 0, 0)}


def test_an_audit_adds_up_its_shards_and_leaves_unknown_classes_open():
    one = Tally(known=(3, 1, 0), right=(3, 0, 0), predicted=(5, 5, 0), accepted=(3, 1, 0))
    other = Tally(known=(1, 1, 0), right=(0, 1, 0), predicted=(5, 3, 2), accepted=(1, 1, 0))
    outcome = gather_audit(JOB, [one, other])
    assert outcome.counts == {"known": 6, "accepted": 6, "new": 0, "dropped": 0}
    assert outcome.metrics["precision"] == pytest.approx(4 / 6)
    assert outcome.metrics["class_precision"] == [0.75, 0.5, None]
    assert outcome.metrics["coverage"] == pytest.approx(6 / 20)


def test_recall_is_of_all_known_rows_and_the_least_confidence_that_of_all_shards():
    some = {"known": (3, 1, 0), "right": (3, 0, 0), "accepted": (3, 1, 0), "predicted": (5, 5, 0)}
    shards = [Tally(**some, told=4, truths=10, least=0.75), Tally(**NOTHING, truths=2)]
    metrics = gather_audit(JOB, shards).metrics
    assert (metrics["recall"], metrics["min_confidence"]) == (3 / 12, 0.75)


def test_an_audit_of_nothing_has_no_shares():
    metrics = gather_audit(JOB, [Tally(**NOTHING)]).metrics
    assert metrics.pop("class_precision") == [None] * 3
    assert set(metrics.values()) == {None}


def test_equal_weights_are_as_effective_as_their_number_and_one_heavy_row_as_one():
    even = Tally(**NOTHING | {"accepted": (4, 0, 0)}, weight=2.0, squared_weight=1.0)
    assert gather_audit(JOB, [even]).metrics["effective_rows"] == 4
    heavy = Tally(**NOTHING | {"accepted": (2, 0, 0)}, weight=1.0, squared_weight=1.0)
    assert gather_audit(JOB, [heavy]).metrics["effective_rows"] == 1


def test_classes_as_among_the_labelled_rows_do_not_diverge():
    assert divergence((10, 10, 20), (2, 2, 4)) == pytest.approx(0)
    assert divergence((10, 0, 0), (2, 2, 4)) == pytest.approx(np.log(4))


@pytest.mark.slow
def test_a_run_reports_what_its_selections_hold_and_how_they_change(make_config):
    config = make_config()
    record = play(config)
    first, second = record.rounds
    tables = [table_of(config.store, "select", r.steps["select"].address) for r in record.rounds]
    told = [table_of(config.store, "label", r.steps["label"].address) for r in record.rounds]
    ids = [set(table["example_id"].to_pylist()) for table in tables]
    assert first.selection["coverage"] == pytest.approx(len(ids[0]) / 1047)
    assert (first.selection["new"], first.selection["flip_rate"]) == (0, None)
    assert second.selection["new"] == len(ids[1] - ids[0])
    assert second.selection["dropped"] == len(ids[0] - ids[1])
    changed = np.mean(told[0]["label"].to_numpy() != told[1]["label"].to_numpy())
    assert second.selection["flip_rate"] == pytest.approx(changed)
    accepted = [name in ids[1] for name in told[1]["example_id"].to_pylist()]
    mean = told[1]["confidence"].to_numpy()[accepted].mean(dtype=np.float64)
    assert second.selection["mean_confidence"] == pytest.approx(mean, rel=1e-6)
    assert second.selection["min_confidence"] == told[1]["confidence"].to_numpy()[accepted].min()
    right = second.precision * len(ids[1])
    assert second.selection["recall"] == pytest.approx(right / 1047)
    assert [len(second.class_precision), len(second.thresholds)] == [10, 10]
    weights = tables[1]["weight"].to_numpy().astype(np.float64)
    assert second.selection["effective_rows"] == pytest.approx(
        weights.sum() ** 2 / (weights**2).sum()
    )
    shares = np.array(second.class_rows) / sum(second.class_rows)
    diverged = xlogy(shares, shares / 0.1).sum()  # ten labelled rows of each class
    assert second.selection["divergence"] == pytest.approx(diverged)
    logs = np.array(told[1]["log_probs"].to_pylist(), np.float64)
    mean = np.exp(logs).mean(axis=0)
    entropy = -(mean * np.log(mean)).sum()
    assert second.selection["entropy_of_mean"] == pytest.approx(entropy, rel=1e-3)


@pytest.mark.slow
def test_a_run_with_folds_and_a_transport_reports_their_errors(make_config):
    config = make_config(
        "recipe.labelling.out_of_fold=2",
        "recipe.calibrators=[{kind: transport, plan: balanced, target: estimated}]",
        "recipe.training.steps={first_round: 20, base: 10}",
    )
    first = play(config).rounds[0]
    assert 0 < first.selection["calibration_error"] < 1
    assert first.selection["transport_iterations"] >= 1
    assert 0 <= first.selection["transport_mass_error"] < 0.5
    assert len(first.prior) == 10
    assert sum(first.prior) == pytest.approx(1)
    (plain, _) = play(make_config("recipe.training.steps={first_round: 20, base: 10}")).rounds
    assert not plain.selection.keys() & {"calibration_error", "transport_iterations"}
    assert plain.prior == ()
