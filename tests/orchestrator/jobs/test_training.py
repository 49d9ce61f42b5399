"""What a training step may draw from."""

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import Fold
from orchestrator.jobs.training_rows import fold_of, load_training_set
from orchestrator.session import make_engine
from orchestrator.steps import Steps
from orchestrator.store.store import Store
from orchestrator.watch import Silent


@pytest.fixture
def steps(make_config):
    config = make_config(
        "recipe.training.batch.pool=4",
        "recipe.training.objective.consistency={first_round: 0}",
        "recipe.training.steps.first_round=5",
    )
    store, data = Store(config.store), Dataset(config.data)
    return Steps(config.model_copy(update={"store": store.root}), data), store, data, config


def test_only_as_many_pool_rows_are_held_as_the_steps_can_draw(steps):
    build, store, data, _ = steps
    job = build.train(0, selection=None, num_selected=0, start=None).job
    held = load_training_set(job, store, data)
    assert len(held.labelled) == 100
    assert 0 < len(held.pool) < 60  # about 4 * 5 of 1,047, by lot
    again = load_training_set(job, store, data)
    assert np.array_equal(held.pool.rows, again.pool.rows)


def test_a_fold_student_never_sees_the_rows_of_its_fold(steps):
    build, store, data, _ = steps
    table = data.table(data.manifest.labelled).sort_by("example_id")
    fold = fold_of(table["example_id"].to_pylist(), 4)
    assert np.bincount(fold).tolist() == [25, 25, 25, 25]
    job = build.train(0, selection=None, num_selected=0, start=None, fold=Fold(number=1, of=4)).job
    held = load_training_set(job, store, data)
    expected = table["label"].to_numpy()[fold != 1]
    assert held.labelled.targets.tolist() == expected.tolist()


def test_folds_do_not_depend_on_the_order_of_rows():
    ids = [f"row-{i}" for i in range(50)]
    forward, backward = fold_of(ids, 3), fold_of(ids[::-1], 3)
    assert np.array_equal(forward, backward[::-1])


def test_a_finished_training_step_holds_its_weights_and_nothing_of_its_work(steps):
    build, store, _, config = steps
    step = build.train(0, selection=None, num_selected=0, start=None)
    engine = make_engine(config.placement)
    record, found = store.once(
        step.identity, lambda _: engine.train(step.job, Silent()), told=print
    )
    assert not found
    assert {f.name for f in record.files} == {
        "teacher.safetensors",
        "student.safetensors",
        "model.json",
    }
    assert record.counts["steps"] == 5
    assert store.leftovers() == []
