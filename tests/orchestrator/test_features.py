"""Runs whose prediction tables hold features: who asks, what is written, what is refused."""

import json

import numpy as np
import pytest

from orchestrator.errors import ConfigError
from orchestrator.jobs.nearness import nearness_in_fold, read_nearness
from orchestrator.jobs.selecting import sample_shards, sampled
from orchestrator.steps import Steps
from orchestrator.store.store import Store
from tests.orchestrator.helpers import play, table_of
from tests.orchestrator.label_sources import SHORT, believed, chosen, written
from trainables.neighbours import directions, prototypes

pytestmark = pytest.mark.slow

NEAR = "recipe.calibrators=[{kind: neighbours, k: 5}]"
COMPACT = "recipe.selector={kind: compactness}"
REWARD = ("recipe.selector={kind: reward, steps: 20}", "recipe.labelling.out_of_fold=2")


@pytest.fixture
def make(make_config):
    return lambda *overrides: make_config(*SHORT, *overrides)


def prototype_source(tmp_path) -> str:
    """A foreign prototype classifier over a tiny network of random weights."""
    import torch
    from safetensors.torch import save_file

    embeddings = tmp_path / "classes.safetensors"
    save_file({"classes": torch.eye(10, 96)}, embeddings)
    source = {
        "kind": "prototypes",
        "model": "test_resnet",
        "checkpoint": written(tmp_path / "weights.safetensors", 0),
        "embeddings": str(embeddings),
    }
    return f"recipe.labelling.foreign=[{json.dumps(source)}]"


def test_features_are_written_only_where_something_reads_them(make):
    plain = play(make())
    assert "features" not in columns(make(), plain)
    for part in (NEAR, COMPACT, "recipe.targets.weight={kind: dual}"):
        assert make(part).recipe.reads_features
    config = make(NEAR)
    record = play(config)
    assert not record.rounds[0].steps["label"].from_store
    assert record.rounds[0].steps["train"].from_store, "training is the same"
    told = believed(config, record, 0, "label")
    without = believed(make(), plain, 0, "label")
    assert told.features.shape == (1047, 4 * config.recipe.student.width)
    assert told.features.dtype == np.float16
    assert np.linalg.norm(told.features.astype(np.float64), axis=1) == pytest.approx(1, abs=2e-3)
    assert (told.log_probs == without.log_probs).all()


def columns(config, record) -> list[str]:
    address = record.rounds[0].steps["label"].address
    return table_of(config.store, "label", address).column_names


def test_only_the_first_of_several_students_gives_features_to_the_combined_table(make):
    config = make(NEAR, COMPACT, "recipe.labelling.students=2")
    record = play(config)
    one, two, both = (believed(config, record, 0, n) for n in ("label", "label-1", "combine"))
    assert two.features is None
    assert (both.features == one.features).all()
    assert 0 < len(chosen(config, record, 0)) < 1047


def test_the_sample_of_all_shards_is_that_of_each_one_merged(make):
    config = make(NEAR)
    record = play(config)
    job = step_of(config, record)
    whole = sampled(job, lambda function: [function([0, 1, 2])])
    parts = sampled(job, lambda function: [function([i]) for i in (2, 0, 1)])
    assert whole.example_ids == parts.example_ids
    assert (whole.log_probs == parts.log_probs).all()
    assert (whole.features == parts.features).all()
    assert sample_shards(job, [0]).values.shape[1] == 10 + whole.num_features


def step_of(config, record):
    from orchestrator.data.dataset import Dataset

    steps, at = Steps(config, Dataset(config.data)), record.rounds[0].steps
    return steps.select(0, predictions=at["label"].address, out_of_fold=None, previous=None).job


def test_a_reward_holds_labelled_rows_against_classes_of_networks_that_never_saw_them(make):
    config = make(*REWARD)
    record = play(config)
    crossed = Store(config.store).record(
        "cross_label", record.rounds[0].steps["cross_label"].address
    )
    assert crossed.identity["inputs"]["train"] == record.rounds[0].steps["train"].address
    near = read_nearness(Store(config.store), crossed)
    assert near.cosines.shape == (crossed.counts["rows"], 10)
    assert near.anchors.shape == (10, 4 * config.recipe.student.width)
    assert ((near.cosines >= -1) & (near.cosines <= 1 + 1e-6)).all()
    assert 0 < len(chosen(config, record, 0)) < 1047


def test_held_out_rows_never_enter_what_they_are_held_against():
    stream = np.random.default_rng(0)
    features, labels = stream.normal(size=(12, 4)), np.arange(12) % 3
    held = np.arange(12) < 4
    found = nearness_in_fold(features, labels, held, 3)
    features[0] *= -1
    changed = nearness_in_fold(features, labels, held, 3)
    assert changed[0] == pytest.approx(-found[0], abs=1e-6)
    assert (changed[1:] == found[1:]).all()
    means = prototypes(features[4:], labels[4:], 3)
    assert found[1] == pytest.approx(directions(features)[0][1] @ means.T, abs=1e-6)
    assert (nearness_in_fold(features, labels, labels == 2, 3)[:, 2] == -1).all()


def test_a_foreign_network_gives_features_before_round_zero(make, tmp_path):
    config = make(prototype_source(tmp_path), NEAR, COMPACT)
    record = play(config)
    before = believed(config, record, 0, "label-foreign-0-before")
    assert before.features.shape == (1047, 96)
    assert len(chosen(config, record, 0, "select-before")) > 0


REFUSED = {
    "a function first": (
        [NEAR, 'recipe.labelling.foreign=[{kind: callable, target: "m:f"}]'],
        "reads features.*as a function has none: name a network first",
    ),
    "a reward before fold students": (
        [*REWARD, "recipe.labelling.foreign=[{kind: timm, model: resnet18}]"],
        "selector reward learns from fold students",
    ),
    "a reward without folds": ([REWARD[0]], "selector reward needs labelling.out_of_fold"),
    "a reward behind features": ([NEAR, *REWARD], "put it first or remove one of them"),
    "a temperature behind features": (
        [
            "recipe.calibrators=[{kind: neighbours}, {kind: temperature}]",
            "recipe.labelling.out_of_fold=2",
        ],
        "calibrator temperature reads out-of-fold predictions, which calibrator neighbours",
    ),
    "features in the step": (
        [
            "recipe.training.batch.pool=8",
            "recipe.training.objective.consistency={calibrators: [{kind: neighbours}]}",
        ],
        "neighbours",
    ),
    "a compact step": (
        [
            "recipe.training.batch.pool=8",
            "recipe.training.objective.consistency={selector: {kind: compactness}}",
        ],
        "selector compactness can act on the stored table only",
    ),
}


@pytest.mark.parametrize(("overrides", "message"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_go_together_is_refused_with_what_to_change(make, overrides, message):
    with pytest.raises(ConfigError, match=message):
        make(*overrides)


def test_a_temperature_before_features_is_fine(make):
    config = make(
        "recipe.calibrators=[{kind: temperature}, {kind: neighbours}]",
        "recipe.labelling.out_of_fold=2",
    )
    assert config.recipe.reads_features
