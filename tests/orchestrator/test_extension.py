"""Runs whose selection is extended by made images."""

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.training_rows import load_training_set
from orchestrator.steps import Steps
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, computed, play
from tests.orchestrator.test_plan import named, plan, same_steps

pytestmark = pytest.mark.slow

FUNCTIONS = """
import numpy as np
def grey(label, count, seed):
    stream = np.random.default_rng([label, seed % 1000])
    return np.full((count, 1, 8, 8), label / 10) * stream.random((count, 1, 1, 1))
def short(label, count, seed):
    return grey(label, count - 1, seed)
def fails(label, count, seed):
    raise RuntimeError("no such weights")
"""
SHORT = ("recipe.training.steps={first_round: 8, base: 6}", "recipe.policy.num_rounds=2")
GAUSSIAN = "recipe.extension={per_class: 5, generator: {kind: class_gaussian, components: 4}}"


def called(name: str) -> str:
    generator = f"{{kind: callable, target: my_images:{name}}}"
    return f"recipe.extension={{per_class: 5, generator: {generator}}}"


@pytest.fixture
def make(make_config, tmp_path, monkeypatch):
    (tmp_path / "my_images.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda *overrides: make_config(*SHORT, *overrides)


def made(config, record, round_: int = 1):
    store = Store(config.store)
    found = store.record("extend", record.rounds[round_].steps["extend"].address)
    return store.read_table(found, "images.parquet"), found


@pytest.mark.parametrize("extension", [GAUSSIAN, called("grey")])
def test_made_images_join_the_selection_of_the_next_round(make, extension):
    config = make(extension)
    record = play(config)
    assert "extend" not in record.rounds[0].steps, "round 0 has no selection"
    table, found = made(config, record)
    known = [5 if rows or extension != GAUSSIAN else 0 for rows in record.rounds[0].class_rows]
    assert found.counts["class_rows"] == known, "nothing is made of classes without images"
    store = Store(config.store)
    train = store.record("train", record.rounds[1].steps["train"].address)
    assert train.identity["inputs"]["extension"] == found.address
    accepted = record.rounds[0].accepted
    assert train.counts["selected_rows"] == accepted + table.num_rows


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_made_image_is_trained_on_with_its_class_at_full_weight(make, kind):
    config = make(called("grey"), f"recipe.targets={{kind: {kind}, weight: {{kind: confidence}}}}")
    record = play(config)
    store, data = Store(config.store), Dataset(config.data)
    selection = record.rounds[0].steps["select"].address
    accepted = record.rounds[0].accepted
    job = Steps(config, data).train(1, selection=selection, num_selected=accepted, start=None).job
    held = load_training_set(job, store, data).selected
    table, _ = made(config, record)
    targets = held.targets.numpy() if kind == "hard" else held.targets.numpy().argmax(1)
    full = np.flatnonzero(held.weights.numpy() == 1)
    found = sorted(targets[full].tolist())
    assert len(held) == accepted + 50
    assert len(full) >= 50
    by_class = np.bincount(found, minlength=10)
    assert (by_class >= np.bincount(table["label"].to_numpy(), minlength=10)).all()


@pytest.mark.parametrize("extension", [GAUSSIAN, called("grey")])
def test_a_run_does_the_steps_of_its_plan_and_finds_them_again(make, extension):
    config = make(extension, "recipe.labelling.out_of_fold=2", "recipe.policy.num_rounds=3")
    before = plan(config)
    record = play(config)
    assert same_steps(plan(config), record)
    assert len(before) == len(addresses(record))
    assert all(line.in_store for line in plan(config))
    again = play(config)
    assert computed(again) == []
    assert named(plan(config)) == named(plan(config))


def test_the_same_settings_make_the_same_images_in_another_store(make, tmp_path):
    config = make(GAUSSIAN)
    other = config.model_copy(update={"store": str(tmp_path / "other")})
    assert made(config, play(config))[0].equals(made(other, play(other))[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "my_images:short: returned images .*, wanted"),
        ("fails", "my_images:fails: no such weights"),
        ("nowhere", "can't be loaded"),
    ],
)
def test_a_function_that_makes_no_images_ends_the_run_with_what_is_wrong(make, name, message):
    with pytest.raises(ConfigError, match=f"recipe.extension.generator: .*{message}"):
        play(make(called(name)))


def test_an_extension_of_a_selection_that_nobody_draws_from_is_refused(make):
    with pytest.raises(ConfigError, match="extension has no effect"):
        make(
            GAUSSIAN,
            "recipe.training.batch={selected: 0, pool: 8}",
            "recipe.training.objective.consistency={}",
        )
    with pytest.raises(ConfigError, match="the only round has no selection"):
        make(GAUSSIAN, "recipe.policy.num_rounds=1")
