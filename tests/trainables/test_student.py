"""A fit: what it does, where it goes on, that placement decides nothing, that it learns."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tests.trainables.students import (
    BATCH,
    CLASSES,
    FROZEN,
    LOG_CLASSES,
    SPECS,
    Stop,
    begun,
    data,
    every_spec,
    furthest,
    ignore,
    names_of,
    network,
    same,
    same_running,
    train,
    undecided,
)
from tests.trainables.two_workers import as_two_workers, keep, kept_by_two
from trainables.augment import ViewSpec
from trainables.batches import BatchPlan, Source, TrainingSet
from trainables.checkpoint import (
    state_from_bytes,
    state_to_bytes,
    weights_from_bytes,
    weights_to_bytes,
)
from trainables.models import build
from trainables.objective import (
    Objective,
)
from trainables.optimiser import OptimiserSpec
from trainables.own_networks import SmallCnn
from trainables.student import StepCount, TrainingSpec, fit, start
from trainables.worker import Worker

# ---- what a fit does


@every_spec
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_every_weight_moves_and_stays_finite(spec, norm):
    before, (state, terms) = network(norm), train(spec, network(norm))
    assert state.step == 5
    for (name, old), new in zip(before.named_parameters(), state.student.parameters(), strict=True):
        assert not torch.equal(old, new), name
        assert torch.isfinite(new).all()
    assert set(terms) == names_of(spec.objective)
    assert all(math.isfinite(value) for value in terms.values())


@every_spec
def test_the_same_seed_gives_the_same_student_and_another_seed_another(spec):
    first, again, other = (train(spec, seed=seed)[0] for seed in (3, 3, 4))
    assert same(first.student, again.student)
    assert same(first.teacher, again.teacher)
    assert not same(first.student, other.student)


def test_the_global_generator_is_left_as_it_was_and_has_no_say():
    spec, results = SPECS["everything at once"], []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(train(spec, network(dropout=0.5))[0])
        assert torch.equal(before, torch.get_rng_state())
    assert same(results[0].student, results[1].student)


def test_the_data_is_not_changed():
    given, fresh = data(), data()
    train(SPECS["everything at once"], on=given)
    assert torch.equal(given.labelled.bank, fresh.labelled.bank)
    assert torch.equal(given.selected.targets, fresh.selected.targets)
    assert torch.equal(given.selected.weights, fresh.selected.weights)


def test_the_student_rule_trains_one_network_and_an_average_trails_it():
    alone, _ = train(SPECS["sgd"])
    assert alone.teacher is alone.student
    averaged, _ = train(SPECS["everything at once"])
    assert furthest(averaged.teacher, averaged.student) > 0
    assert not any(p.requires_grad for p in averaged.teacher.parameters())


def test_a_warm_start_starts_from_the_given_weights():
    given = network(seed=9)
    model = network(seed=1)
    weights_from_bytes(weights_to_bytes(given), model)
    state = start(SPECS["everything at once"], model, CLASSES, Worker())
    assert same(state.student, given)
    assert same(state.teacher, given)
    assert not state.optimiser.state_dict()["state"]
    spec = TrainingSpec(batch=BATCH, optimiser=FROZEN)
    assert furthest(train(spec, model)[0].student, given) < 1e-6


def test_no_steps_change_nothing():
    state, terms = train(SPECS["sgd"], steps=0)
    assert same(state.student, network())
    assert terms == {}


def test_a_gradient_is_cut_to_its_largest_norm():
    plain = OptimiserSpec(
        learning_rate=0.5, momentum=0, weight_decay=0, max_grad_norm=0.01, final_share=1
    )
    state, _ = train(TrainingSpec(batch=BATCH, optimiser=plain), steps=1)
    pairs = zip(state.student.parameters(), network().parameters(), strict=True)
    moved = math.sqrt(sum((a - b).square().sum().item() for a, b in pairs))
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_bfloat16_trains_float32_weights_to_nearly_the_same_place():
    spec = TrainingSpec(batch=BATCH, optimiser=OptimiserSpec(learning_rate=0.01))
    half, _ = train(spec.model_copy(update={"precision": "bfloat16"}))
    whole, _ = train(spec)
    assert all(p.dtype == torch.float32 for p in half.student.parameters())
    assert 0 < furthest(half.student, whole.student) < 0.01


def test_the_listener_hears_every_step_once():
    heard = []
    train(SPECS["sgd"], steps=4, listen=lambda p, s: heard.append((p.step, s.step, p.num_steps)))
    assert heard == [(1, 1, 4), (2, 2, 4), (3, 3, 4), (4, 4, 4)]


# ---- interruptions


@every_spec
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_fit_that_is_interrupted_and_resumed_ends_bit_for_bit_where_it_would_have(
    spec, norm, stop
):
    whole, _ = train(spec, network(norm, dropout=0.2))
    kept = []

    def leave(progress, state) -> None:
        if progress.step == stop:
            kept.append(state_to_bytes(state))
            raise Stop

    with pytest.raises(Stop):
        train(spec, network(norm, dropout=0.2), listen=leave)
    resumed = begun(spec, network(norm, seed=8, dropout=0.2))
    state_from_bytes(kept[0], resumed)
    assert resumed.step == stop
    fit(spec, resumed, data(), 5, seed=3, worker=Worker(), listen=ignore)
    assert same(whole.student, resumed.student)
    assert same(whole.teacher, resumed.teacher)
    assert same_running(whole, resumed)


def test_the_mean_of_a_term_is_over_the_steps_that_were_made():
    spec = TrainingSpec(batch=BATCH, optimiser=FROZEN)
    state, _ = train(spec, undecided(), steps=4)
    terms = fit(spec, state, data(), 6, seed=3, worker=Worker(), listen=ignore)
    assert terms["labelled"] == pytest.approx(LOG_CLASSES, rel=1e-5)


# ---- placement


@every_spec
@pytest.mark.parametrize("rows_per_pass", [1, 4, 5, 100])
def test_rows_per_pass_decide_memory_and_not_the_student(spec, rows_per_pass):
    """Sums in another order: float32 rounding only, after five steps below 2e-5."""
    if spec.objective.reads_batch_means:
        with pytest.raises(ValueError, match="reads the mean prediction of the batch"):
            train(spec, worker=Worker(rows_per_pass=rows_per_pass))
        return
    whole, terms = train(spec)
    cut, cut_terms = train(spec, worker=Worker(rows_per_pass=rows_per_pass))
    assert furthest(whole.student, cut.student) < 2e-5
    assert cut_terms == pytest.approx(terms, rel=1e-4)


SHARED = [
    (name, rows)
    for name in ("adamw", "everything at once", "labelled consistency", "adaptive consistency")
    for rows in (0, 3)
    if not (rows and SPECS[name].objective.reads_batch_means)
]


def _train_all(worker: Worker, folder: Path) -> None:
    for name, rows in SHARED:
        own = Worker(worker.rank, worker.world, rows_per_pass=rows)
        keep([(f"{name}-{rows}", *train(SPECS[name], worker=own))], worker, folder)


@pytest.mark.slow
def test_two_workers_train_the_student_of_one(tmp_path, monkeypatch):
    """Sums in another order: float32 rounding only, after five steps below 2e-5."""
    as_two_workers(_train_all, tmp_path, monkeypatch)
    for name, rows in SHARED:
        alone, expected = train(SPECS[name])
        states, terms = kept_by_two(
            tmp_path, f"{name}-{rows}", lambda name=name: begun(SPECS[name], network(seed=8))
        )
        for found in terms:
            assert found == pytest.approx(expected, rel=1e-4)
        assert same(states[0].student, states[1].student)
        assert same_running(*states)
        assert furthest(states[0].student, alone.student) < 2e-5
        assert furthest(states[0].teacher, alone.teacher) < 2e-5
        ours, theirs = states[0].running.arrays(), alone.running.arrays()
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value == pytest.approx(theirs[key], abs=1e-5), key


def _train_with_batch_norm(worker: Worker, folder: Path) -> None:
    spec = SPECS["everything at once"]
    keep([("norm", *train(spec, network("batch"), worker=worker))], worker, folder)


@pytest.mark.slow
def test_two_workers_with_batch_norm_keep_one_student_and_one_teacher(tmp_path, monkeypatch):
    """Their batches differ, and with them the statistics that each would keep alone."""
    as_two_workers(_train_with_batch_norm, tmp_path, monkeypatch)
    spec = SPECS["everything at once"]
    states, _ = kept_by_two(tmp_path, "norm", lambda: begun(spec, network("batch", seed=8)))
    assert same(states[0].student, states[1].student)
    assert same(states[0].teacher, states[1].teacher)
    assert same_running(*states)


# ---- length of a round


@pytest.mark.parametrize(
    ("steps", "num_selected", "expected"),
    [
        (StepCount(first_round=7, base=9), 0, 7),
        (StepCount(first_round=7, base=9), 1, 9),
        (StepCount(base=10, passes_over_selection=2), 100, 10 + 2 * 100 // 20),
        (StepCount(base=0, passes_over_selection=1), 1, 1),
        (StepCount(base=10, passes_over_selection=5, most=12), 1000, 12),
        (StepCount(first_round=50, most=12), 0, 12),
    ],
)
def test_a_round_grows_with_its_selection_up_to_its_limit(steps, num_selected, expected):
    assert steps.resolve(num_selected, selected_per_step=20) == expected


# ---- learning


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ten_labels_per_digit_are_enough_to_read_most_digits(seed):
    """Measured 0.921, 0.942 and 0.938; the bound leaves four points for other arithmetic."""
    digits = load_digits()
    pixels = torch.from_numpy((digits.images / 16 * 255).astype(np.uint8))[:, None]
    order = np.random.default_rng(seed).permutation(len(pixels))
    labels = digits.target
    rows = np.concatenate([order[labels[order] == k][:10] for k in range(10)])
    test = np.setdiff1d(order, rows)
    on = TrainingSet(Source(pixels, rows, torch.from_numpy(labels[rows]).long()))
    spec = TrainingSpec(
        batch=BatchPlan(labelled=32),
        objective=Objective(weak=ViewSpec(flip=0, translate=0.1, rotate=10)),
        optimiser=OptimiserSpec(learning_rate=0.1),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(SmallCnn(width=16), 1, 8, 10)
    state = start(spec, model, 10, Worker())
    terms = fit(spec, state, on, 250, seed=seed, worker=Worker(), listen=ignore)
    with torch.no_grad():
        logits = state.teacher.eval()(pixels[test].float() / 255)
    accuracy = (logits.argmax(1).numpy() == labels[test]).mean()
    assert accuracy > 0.88
    assert terms["labelled"] < 1.0
