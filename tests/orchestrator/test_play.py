"""Whole runs on real digits, in this process."""

from itertools import pairwise

import numpy as np
import pytest

from orchestrator.console import Console
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, Interrupted
from orchestrator.plan import plan_run
from orchestrator.runs import load_run
from orchestrator.session import play_run
from orchestrator.signals import StopRequest
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, computed, play, table_of

ROUND = ["train", "score", "label", "select", "audit"]


def test_a_run_plays_all_rounds_and_its_record_points_at_finished_steps(make_config):
    config = make_config()
    record = play(config)
    store = Store(config.store)
    assert [r.round for r in record.rounds] == [0, 1]
    assert [list(r.steps) for r in record.rounds] == [ROUND, ROUND]
    assert record.status == "finished"
    assert all(store.has(s.kind, s.address) for r in record.rounds for s in r.steps.values())
    assert load_run(config.runs / record.run) == record


def test_the_same_run_again_takes_every_step_from_the_store(make_config):
    config = make_config()
    first, second = play(config), play(config)
    assert computed(second) == []
    assert addresses(second) == addresses(first)
    assert [r.test for r in second.rounds] == [r.test for r in first.rounds]


@pytest.mark.slow
def test_another_threshold_reuses_round_zero_and_its_predictions(make_config):
    play(make_config())
    record = play(make_config("recipe.selector={kind: threshold, threshold: 0.6}"))
    assert computed(record)[0] == (0, "select")
    assert (0, "train") not in computed(record)
    assert (0, "label") not in computed(record)


@pytest.mark.slow
def test_placement_and_name_change_nothing(make_config):
    first = play(make_config())
    record = play(make_config("name=other", "placement.label_rows_per_pass=17"))
    assert computed(record) == []
    assert addresses(record) == addresses(first)


def test_every_pool_row_is_predicted_exactly_once(make_config):
    config = make_config()
    record = play(config)
    table = table_of(config.store, "label", record.rounds[0].steps["label"].address)
    ids = table["example_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 1047
    probs = np.exp(table["log_probs"].combine_chunks().flatten().to_numpy().reshape(-1, 10))
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_every_class_that_the_teacher_predicts_keeps_a_label(make_config):
    config = make_config("recipe.selector.share=0.001")
    for each in play(config).rounds:
        label = Store(config.store).record("label", each.steps["label"].address)
        predicted = [rows > 0 for rows in label.counts["class_rows"]]
        assert [rows > 0 for rows in each.class_rows] == predicted
        assert each.starved_classes == ()


def test_a_round_that_hurts_is_rolled_back_and_its_teacher_never_labels(make_config):
    config = make_config(
        "recipe.policy.num_rounds=3",
        "recipe.policy.roll_back_below=0.05",
        "recipe.training.steps.base=1",  # a restarted student of one step knows nothing
    )
    record = play(config)
    assert [r.kept for r in record.rounds] == [True, False, False]
    assert "rolled back" in record.rounds[1].reason
    labels = [r.steps["label"].address for r in record.rounds]
    assert labels[1] == labels[0]
    assert record.best_round == 0


def test_the_delivered_round_is_chosen_on_validation_alone(make_config):
    record = play(make_config("recipe.policy.num_rounds=3", "recipe.policy.deliver=best"))
    values = [r.validation["accuracy"] for r in record.rounds]
    assert record.best_round == values.index(max(values))


@pytest.mark.slow
def test_keeping_the_pool_never_changes_a_label_once_given(make_config):
    config = make_config(
        "recipe.policy.pool=keep",
        "recipe.policy.num_rounds=3",
        "recipe.selector.share={schedule: stepwise, values: [0.3, 0.6]}",
    )
    record = play(config)
    tables = [
        table_of(config.store, "select", r.steps["select"].address) for r in record.rounds[:2]
    ]
    first, second = (
        dict(zip(t["example_id"].to_pylist(), t["target"].to_pylist(), strict=True)) for t in tables
    )
    assert first.items() <= second.items()
    assert len(second) > len(first)


@pytest.mark.slow
def test_a_selector_may_be_fitted_on_the_rows_that_remain(make_config):
    share = "recipe.selector={kind: top_share, share: 0.25}"
    config = make_config("recipe.policy={num_rounds: 4, pool: remaining}", share)
    record = play(config)
    tables = [
        table_of(config.store, "select", r.steps["select"].address) for r in record.rounds[:3]
    ]
    chosen = [
        dict(zip(t["example_id"].to_pylist(), t["label"].to_pylist(), strict=True)) for t in tables
    ]
    assert chosen[0].items() <= chosen[1].items() <= chosen[2].items()
    left = 1047
    for before, after in pairwise([{}, *chosen]):
        taken = len(after) - len(before)
        assert taken == pytest.approx(0.25 * left, abs=1)
        left -= taken
    told = table_of(config.store, "label", record.rounds[1].steps["label"].address)
    sure = dict(zip(told["example_id"].to_pylist(), told["confidence"].to_pylist(), strict=True))
    new, rest = chosen[1].keys() - chosen[0].keys(), sure.keys() - chosen[1].keys()
    assert min(sure[name] for name in new) >= max(sure[name] for name in rest)


@pytest.mark.slow
def test_soft_targets_are_distributions_and_weights_are_confidences(make_config):
    config = make_config("recipe.targets={kind: soft, weight: {kind: confidence}}")
    record = play(config)
    table = table_of(config.store, "select", record.rounds[0].steps["select"].address)
    target = table["target"].combine_chunks().flatten().to_numpy().reshape(-1, 10)
    weight = table["weight"].to_numpy()
    assert np.allclose(target.sum(axis=1), 1, atol=1e-5)
    assert ((weight > 0) & (weight <= 1)).all()
    assert np.allclose(weight, target.max(axis=1), atol=1e-5)


@pytest.mark.slow
def test_out_of_fold_predictions_reach_the_selector_that_asks_for_them(make_config):
    config = make_config(
        "recipe.labelling.out_of_fold=3",
        "recipe.training.steps.first_round=120",
        "recipe.selector={kind: out_of_fold_precision, precision: 0.8}",
    )
    record = play(config)
    steps = record.rounds[0].steps
    assert [n for n in steps if n.startswith("train-fold-")] == [
        f"train-fold-{i}" for i in range(3)
    ]
    crossed = Store(config.store).record("cross_label", steps["cross_label"].address)
    assert crossed.counts["rows"] == 100
    assert crossed.metrics["accuracy"] > 0.5
    assert record.rounds[0].accepted > 0


@pytest.mark.slow
def test_fold_students_start_warm_from_those_that_never_saw_their_fold_of_the_last_kept_round(
    make_config,
):
    config = make_config(
        "recipe.labelling.out_of_fold=2",
        "recipe.training.optimiser.learning_rate={schedule: stepwise, values: [0.05, 10, 0.05]}",
        "recipe.policy={num_rounds: 3, start: warm, roll_back_below: 0.02}",
    )
    record = play(config)
    assert [r.kept for r in record.rounds[:2]] == [True, False]
    store, first = Store(config.store), record.rounds[0].steps
    for later in (record.rounds[1].steps, record.rounds[2].steps):
        for name in ("train", "train-fold-0", "train-fold-1"):
            identity = store.record("train", later[name].address).identity
            assert identity["inputs"]["start"] == first[name].address
            fold = identity["reads"].get("fold", {}).get("number")
            assert fold == (int(name[-1]) if "fold" in name else None)
    planned = {
        (line.round, line.step): line.address
        for line in plan_run(config, Dataset(config.data), store)
    }
    played = {(r.round, n): s.address for r in record.rounds for n, s in r.steps.items()}
    assert planned == played


def test_a_selection_of_nothing_ends_the_run_and_says_so(make_config):
    record = play(make_config("recipe.selector={kind: threshold, threshold: 1.0}"))
    assert len(record.rounds) == 1
    assert record.stopped.startswith("the selection is empty")


@pytest.mark.slow
def test_a_consistency_term_trains_on_pool_rows_from_its_round_on(make_config):
    config = make_config(
        "recipe.training.batch.pool=32",
        "recipe.training.objective.consistency.selector={kind: threshold, threshold: 0.5}",
    )
    record = play(config)
    store = Store(config.store)
    trained = [store.record("train", r.steps["train"].address) for r in record.rounds]
    assert [t.counts["pool_rows"] > 0 for t in trained] == [False, True]
    assert trained[1].metrics["loss"]["consistency_accepted"] > 0


class StopAt(StopRequest):
    """Asks to stop at the n-th question."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number

    def asked(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.slow
@pytest.mark.parametrize("question", [0, 5, 20, 34, 40, 60])
def test_stopped_anywhere_and_started_again_equals_uninterrupted(make_config, tmp_path, question):
    config = make_config()
    with pytest.raises(Interrupted):
        play_run(config, Console(quiet=True), StopAt(question))
    resumed = play(config)
    whole = play(config.model_copy(update={"store": str(tmp_path / "other")}))
    assert addresses(resumed) == addresses(whole)
    assert [r.test for r in resumed.rounds] == [r.test for r in whole.rounds]
    for each in whole.rounds:
        address = each.steps["select"].address
        stores = (config.store, tmp_path / "other")
        files = [Store(s).record("select", address).files for s in stores]
        assert files[0] == files[1]


@pytest.mark.slow
def test_cutting_batches_is_refused_where_batch_norm_would_change_the_result(make_config):
    with pytest.raises(ConfigError, match="batch norm"):
        play(make_config("placement.rows_per_pass=16"))
    group = "recipe.student={kind: small_cnn, width: 8, norm: group}"
    whole = play(make_config(group))
    cut = play(make_config(group, "placement.rows_per_pass=16", f"store={make_config().store}-2"))
    assert addresses(cut) == addresses(whole)


@pytest.mark.slow
def test_an_interrupted_replay_of_a_finished_run_keeps_its_record(make_config):
    config = make_config()
    whole = play(config)
    with pytest.raises(Interrupted):
        play_run(config, Console(quiet=True), StopAt(0))
    kept = load_run(config.runs / whole.run)
    assert kept.status == "interrupted"
    assert [r.round for r in kept.rounds] == [0, 1]


@pytest.mark.slow
def test_any_timm_model_plays_at_any_size_and_channel_count(make_config):
    config = make_config(
        "recipe.student={kind: timm, name: test_resnet}",
        "recipe.images={size: 32, channels: 3}",
        "recipe.training.steps={first_round: 3, base: 3}",
    )
    record = play(config)
    label = Store(config.store).record("label", record.rounds[1].steps["label"].address)
    assert label.counts["rows"] == 1047
    assert label.identity["reads"]["form"] == {"fit": "crop", "size": 32, "channels": 3}


@pytest.mark.slow
def test_bfloat16_trains_to_other_weights_at_another_address(make_config):
    plain = play(make_config())
    config = make_config("recipe.training.precision=bfloat16")
    record = play(config)
    assert (0, "train") in computed(record)
    assert record.rounds[0].steps["train"].address != plain.rounds[0].steps["train"].address
    trained = Store(config.store).record("train", record.rounds[0].steps["train"].address)
    assert 0 < trained.metrics["loss"]["loss"] < 3
