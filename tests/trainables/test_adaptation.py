"""Rounds without labels: whose rows count, which parameters move, what batch norm reads."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.trainables.students import (
    BATCH,
    CLASSES,
    FROZEN,
    LOG_CLASSES,
    STILL,
    begun,
    constant,
    data,
    furthest,
    ignore,
    network,
    same,
    train,
    undecided,
)
from trainables.batches import BatchPlan
from trainables.checkpoint import state_from_bytes, state_to_bytes
from trainables.losses import GeneralisedCrossEntropy
from trainables.models import TimmModel, batch_statistics, build, freeze_all_but
from trainables.objective import ConsistencyTerm, EntropyTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.own_networks import SmallCnn
from trainables.selectors.fixed import Everything
from trainables.student import TrainingSpec, fit
from trainables.worker import Worker

UNLABELLED = BatchPlan(labelled=0, selected=0, pool=7)
RATE = OptimiserSpec(learning_rate=0.05)
ROBUST = Objective(
    consistency=ConsistencyTerm(
        labels_view="strong",
        statistics="batch",
        selector=Everything(),
        loss=GeneralisedCrossEntropy(q=0.8),
    ),
    strong=STILL,
)
SURE = Objective(entropy=EntropyTerm(weight=1.0, rows="unlabelled"), strong=STILL)


def spec(goal: Objective, **parts) -> TrainingSpec:
    return TrainingSpec(batch=UNLABELLED, objective=goal, **({"optimiser": RATE} | parts))


def moved(before: nn.Module, after: nn.Module) -> set[str]:
    theirs = dict(after.named_parameters())
    return {n for n, p in before.named_parameters() if not torch.equal(p, theirs[n])}


@pytest.mark.parametrize("goal", [ROBUST, SURE])
def test_without_labelled_rows_nothing_is_learnt_from_them(goal):
    state, terms = train(spec(goal), network("batch"), on=data(selected=False))
    labels = data(selected=False).labelled.targets
    other = data(selected=False)
    other.labelled.targets.copy_((labels + 1) % CLASSES)
    again, _ = train(spec(goal), network("batch"), on=other)
    assert terms["labelled"] == 0
    assert same(state.student, again.student)
    assert not same(state.student, network("batch"))


def test_the_robust_loss_of_an_undecided_network_is_that_of_one_in_c():
    terms = train(spec(ROBUST, optimiser=FROZEN), undecided(), steps=1)[1]
    assert terms["consistency"] == pytest.approx((1 - CLASSES**-0.8) / 0.8, rel=1e-5)
    assert terms["consistency_accepted"] == 1


def test_entropy_is_the_mean_over_the_pool_rows_alone():
    probs = [0.7, 0.1, 0.1, 0.1]
    terms = train(spec(SURE, optimiser=FROZEN), constant(probs), steps=1)[1]
    assert terms["entropy"] == pytest.approx(-sum(p * math.log(p) for p in probs), rel=1e-4)
    assert terms["loss"] == terms["entropy"]
    assert "consistency_accepted" not in terms
    undecided_terms = train(spec(SURE, optimiser=FROZEN), undecided(), steps=1)[1]
    assert undecided_terms["entropy"] == pytest.approx(LOG_CLASSES, rel=1e-5)


@pytest.mark.parametrize(
    ("trains", "those"),
    [
        ("norm", {"features.1", "features.5", "features.9"}),
        ("head", {"classifier"}),
    ],
)
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_only_the_named_layers_move(trains, those, kind):
    rate = OptimiserSpec(kind=kind, learning_rate=0.05, weight_decay=0.1, trains=trains)
    state, _ = train(spec(ROBUST, optimiser=rate), network("batch"))
    found = moved(network("batch"), state.student)
    assert found
    assert {name.rpartition(".")[0] for name in found} <= those


def test_a_network_without_such_layers_is_refused():
    with pytest.raises(ValueError, match="optimiser.trains is 'norm', but the student has no"):
        freeze_all_but("norm", nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


def test_the_classifier_of_a_timm_model_is_its_head():
    model = build(TimmModel(name="resnet18"), 1, 32, 3)
    freeze_all_but("head", model)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("goal", [ROBUST, SURE])
def test_an_interrupted_adaptation_ends_where_it_would_have(goal):
    rate = OptimiserSpec(learning_rate=0.05, trains="norm")
    whole, _ = train(spec(goal, optimiser=rate), network("batch"))
    first, _ = train(spec(goal, optimiser=rate), network("batch"), steps=5, listen=ignore)
    assert same(whole.student, first.student)
    kept = []
    train(
        spec(goal, optimiser=rate),
        network("batch"),
        listen=lambda progress, state: (
            kept.append(state_to_bytes(state)) if progress.step == 2 else None
        ),
    )
    resumed = begun(spec(goal, optimiser=rate), network("batch", seed=4))
    state_from_bytes(kept[0], resumed)
    fit(spec(goal, optimiser=rate), resumed, data(), 5, seed=3, worker=Worker(), listen=ignore)
    assert same(whole.student, resumed.student)


@pytest.mark.parametrize("goal", [ROBUST, SURE])
def test_adaptation_works_under_bfloat16(goal):
    half, _ = train(spec(goal, precision="bfloat16"), network("batch"))
    whole, _ = train(spec(goal), network("batch"))
    assert furthest(half.student, whole.student) < 0.2


def test_labels_by_batch_statistics_leave_the_running_ones_alone():
    model = network("batch").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with batch_statistics(model):
        assert not model.training
        model(torch.rand(5, 1, 12, 12))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batch_statistics_decide_the_labels():
    """A network whose running statistics are far off labels as it learns, not as it was."""
    model = network("batch")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(5.0)
    told = {}
    for statistics in ("running", "batch"):
        term = ROBUST.consistency.model_copy(update={"statistics": statistics})
        goal = Objective(consistency=term, strong=STILL)
        _, told[statistics] = train(spec(goal, optimiser=FROZEN), model, steps=1)
    assert told["batch"]["consistency"] != pytest.approx(told["running"]["consistency"], rel=1e-3)


def test_a_worker_without_a_row_is_refused_by_the_source_that_is_short():
    with pytest.raises(ValueError, match="8 workers share 7 pool rows of a batch"):
        train(spec(ROBUST), worker=Worker(0, 8))
    with pytest.raises(ValueError, match="8 workers share 6 labelled rows of a batch"):
        train(TrainingSpec(batch=BATCH), worker=Worker(0, 8))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_small_network_starts_from_a_file(tmp_path, suffix):
    source, path = network("batch", seed=1), tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(source.state_dict(), path)
    loaded = build(SmallCnn(width=8, checkpoint=path), 1, 12, CLASSES)
    assert same(source, loaded)
