"""What a training step may draw from."""

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import Fold, TrainJob
from orchestrator.jobs.training import begin_classes, build_model, load_teacher
from orchestrator.jobs.training_rows import fold_of, load_training_set
from orchestrator.runs import RunRecord
from orchestrator.session import make_engine
from orchestrator.steps import Steps
from orchestrator.store.store import Store
from orchestrator.watch import Silent
from tests.orchestrator.helpers import play
from trainables.models import classifier_of
from trainables.worker import Worker


@pytest.fixture
def steps(make_config):
    config = make_config(
        "recipe.training.batch.pool=4",
        "recipe.training.objective.consistency={first_round: 0}",
        "recipe.training.steps.first_round=5",
    )
    store, data = Store(config.store), Dataset(config.data)
    return Steps(config.model_copy(update={"store": store.root}), data), store, data, config


def still_rounds(make_config, start: str) -> tuple[RunRecord, Store, list[TrainJob]]:
    """Two rounds whose optimiser moves no weight, and the jobs of their trainings."""
    config = make_config(
        f"recipe.policy.start={start}",
        "recipe.training.optimiser={learning_rate: 1e-12, momentum: 0, weight_decay: 0}",
        "recipe.training.steps={first_round: 3, base: 3}",
    )
    record, store = play(config), Store(config.store)
    build = Steps(config.model_copy(update={"store": store.root}), Dataset(config.data))
    played = [each.steps for each in record.rounds]
    first = build.train(0, selection=None, num_selected=0, start=None)
    second = build.train(
        1,
        selection=played[0]["select"].address,
        num_selected=record.rounds[0].accepted,
        start=None if start == "restart" else first.address,
    )
    assert [first.address, second.address] == [each["train"].address for each in played]
    return record, store, [first.job, second.job]


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("start", ["restart", "warm", "warm_body"])
def test_a_round_begins_with_the_weights_of_its_seed_or_of_the_teacher_before(make_config, start):
    record, store, (first, second) = still_rounds(make_config, start)
    before, after = (
        weights(load_teacher(store, second, each.steps["train"].address)) for each in record.rounds
    )
    drawn = [build_model(job.student, job.form, job.task, job.seed) for job in (first, second)]
    assert torch.allclose(before, weights(drawn[0]), atol=1e-6)
    assert not torch.allclose(weights(drawn[0]), weights(drawn[1]), atol=1e-2), "seeds of rounds"
    expected = weights(drawn[1]) if start == "restart" else before
    if start == "warm_body":
        mixed = load_teacher(store, second, record.rounds[0].steps["train"].address)
        classifier_of(mixed).load_state_dict(classifier_of(drawn[1]).state_dict())
        expected = weights(mixed)
        assert not torch.allclose(expected, before, atol=1e-3)
    assert torch.allclose(after, expected, atol=1e-6)
    begun = begin_classes(second, store, Dataset(second.data), drawn[1], Worker()).state
    assert not begun.optimiser.state_dict()["state"], "the optimiser remembers nothing"
    assert begun.step == 0


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
