"""Second networks, steps ahead, adaptation: the laws that every fit keeps, and what is theirs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.students import (
    BATCH,
    CLASSES,
    Stop,
    data,
    furthest,
    ignore,
    network,
    same,
    same_running,
)
from tests.trainables.test_adaptation import ROBUST, SURE
from tests.trainables.test_adaptation import spec as spec_without_labels
from tests.trainables.two_workers import as_two_workers, keep, kept_by_two
from trainables.batches import BatchPlan, TrainingSet
from trainables.checkpoint import state_from_bytes, state_to_bytes
from trainables.objective import ConsistencyTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.partners import LookAhead, MetaTeacher, Peer, SelfMeta
from trainables.pool_mixing import AnchorMix, PairMix
from trainables.selectors.adaptive import FlexThreshold
from trainables.selectors.fixed import Everything, Threshold
from trainables.state import TrainState
from trainables.student import TrainingSpec, fit, start
from trainables.targets import TargetSpec
from trainables.teachers import ExponentialAverage, QueueMean
from trainables.worker import Worker

RATE = OptimiserSpec(learning_rate=0.05)
FLEX = Objective(consistency=ConsistencyTerm(selector=FlexThreshold(threshold=0.27, floor=0.25)))
FROM_TEACHER = Objective(consistency=ConsistencyTerm(labels_from="teacher", selector=Everything()))
PAIRS = Objective(consistency=ConsistencyTerm(selector=Threshold(threshold=0.27), mix=PairMix()))
ANCHORS = Objective(
    consistency=ConsistencyTerm(
        selector=Threshold(threshold=0.27),
        targets=TargetSpec(kind="soft"),
        mix=AnchorMix(anchors_from=0.5),
    )
)
SPECS = {
    "peer": TrainingSpec(batch=BATCH, objective=FLEX, optimiser=RATE, partner=Peer()),
    "peer with batches of its own": TrainingSpec(
        batch=BATCH, objective=FLEX, optimiser=RATE, partner=Peer(batches="own")
    ),
    "meta teacher": TrainingSpec(
        batch=BatchPlan(labelled=6, selected=0, pool=7),
        optimiser=RATE,
        teacher=ExponentialAverage(decay=0.9),
        partner=MetaTeacher(consistency=1.0, threshold=0.26, finetune=0.3),
    ),
    "self meta": TrainingSpec(
        batch=BatchPlan(labelled=6, selected=0, pool=7),
        optimiser=RATE,
        teacher=ExponentialAverage(decay=0.9),
        self_meta=SelfMeta(consistency=1.0, threshold=0.26, finetune=0.3),
    ),
    "three steps ahead": TrainingSpec(
        batch=BATCH,
        objective=FROM_TEACHER,
        optimiser=RATE,
        teacher=ExponentialAverage(decay=0.9),
        look_ahead=LookAhead(steps=3),
    ),
    "two steps wide": TrainingSpec(
        batch=BATCH,
        objective=FROM_TEACHER,
        optimiser=RATE,
        teacher=ExponentialAverage(decay=0.9),
        look_ahead=LookAhead(kind="wide", steps=2),
    ),
}
SPECS |= {
    "queue": TrainingSpec(
        batch=BATCH, objective=FROM_TEACHER, optimiser=RATE, teacher=QueueMean(push_every=2)
    ),
    "robust labels alone": spec_without_labels(ROBUST),
    "entropy alone": spec_without_labels(SURE),
    "pairs": TrainingSpec(batch=BATCH, objective=PAIRS, optimiser=RATE),
    "anchors": TrainingSpec(batch=BATCH, objective=ANCHORS, optimiser=RATE),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def rows_for(spec: TrainingSpec) -> TrainingSet:
    return data(selected=bool(spec.batch.selected))


def begun(
    spec: TrainingSpec, seed: int = 0, worker: Worker | None = None, dropout: float = 0.2
) -> TrainState:
    partner = network(seed=seed + 11, dropout=dropout) if spec.partner else None
    pool = len(rows_for(spec).pool)
    model = network(seed=seed, dropout=dropout)
    return start(spec, model, CLASSES, worker or Worker(), pool, partner)


def train(
    spec: TrainingSpec,
    *,
    seed: int = 3,
    worker: Worker | None = None,
    dropout: float = 0.2,
    listen=ignore,
) -> tuple[TrainState, dict[str, float]]:
    state = begun(spec, worker=worker, dropout=dropout)
    worker = worker or Worker()
    return state, fit(spec, state, rows_for(spec), 5, seed=seed, worker=worker, listen=listen)


def networks(state: TrainState) -> list[torch.nn.Module]:
    found = [state.student, state.teacher]
    return found + ([state.partner.network] if state.partner else [])


@every_spec
def test_every_network_moves_and_stays_finite(spec):
    before, (state, terms) = begun(spec), train(spec)
    for old, new in zip(networks(before), networks(state), strict=True):
        assert not same(old, new)
        assert all(torch.isfinite(p).all() for p in new.parameters())
    assert all(value == value for value in terms.values())


@every_spec
def test_the_same_seed_gives_the_same_networks_and_another_seed_others(spec):
    first, again, other = (train(spec, seed=seed)[0] for seed in (3, 3, 4))
    for ours, theirs in zip(networks(first), networks(again), strict=True):
        assert same(ours, theirs)
    assert not same(first.student, other.student)


@every_spec
@pytest.mark.parametrize("stop", [1, 4])
def test_an_interrupted_fit_ends_bit_for_bit_where_it_would_have(spec, stop):
    whole, _ = train(spec)
    kept = []

    def leave(progress, state) -> None:
        if progress.step == stop:
            kept.append(state_to_bytes(state))
            raise Stop

    with pytest.raises(Stop):
        train(spec, listen=leave)
    resumed = begun(spec, seed=5)
    state_from_bytes(kept[0], resumed)
    fit(spec, resumed, rows_for(spec), 5, seed=3, worker=Worker(), listen=ignore)
    for ours, theirs in zip(networks(whole), networks(resumed), strict=True):
        assert same(ours, theirs)
    if whole.partner is not None:
        assert whole.partner.baseline == resumed.partner.baseline
        ours, theirs = (each.partner.running.arrays() for each in (whole, resumed))
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_a_partner_must_be_given_a_network():
    with pytest.raises(ValueError, match="give its network"):
        start(SPECS["peer"], network(), CLASSES, Worker(), 19)


@pytest.mark.parametrize("name", ["meta teacher", "self meta"])
def test_a_meta_teachers_batches_are_not_cut(name):
    with pytest.raises(ValueError, match="rows_per_pass can't cut the batches of a meta teacher"):
        train(SPECS[name], worker=Worker(rows_per_pass=3))


@pytest.mark.parametrize("name", ["three steps ahead", "two steps wide"])
def test_steps_ahead_are_taken_back_from_student_and_optimiser(name):
    """Where no label is accepted the student's step does not depend on the teacher at all."""
    unsure = ConsistencyTerm(labels_from="teacher", selector=Threshold(threshold=1.0))
    spec = SPECS[name].model_copy(update={"objective": Objective(consistency=unsure)})
    ahead, plain = train(spec)[0], train(spec.model_copy(update={"look_ahead": None}))[0]
    assert same(ahead.student, plain.student)
    assert not same(ahead.teacher, plain.teacher), "the teacher kept what it saw"


def test_peers_of_one_seed_would_stay_one_network():
    spec, rows = SPECS["peer"], rows_for(SPECS["peer"])
    state = start(spec, network(), CLASSES, Worker(), len(rows.pool), network())
    fit(spec, state, rows, 3, seed=3, worker=Worker(), listen=ignore)
    assert same(state.student, state.partner.network)


def test_peers_with_batches_of_their_own_part_all_the_same():
    spec = SPECS["peer with batches of its own"]
    rows = rows_for(spec)
    state = start(spec, network(), CLASSES, Worker(), len(rows.pool), network())
    fit(spec, state, rows, 3, seed=3, worker=Worker(), listen=ignore)
    assert not same(state.student, state.partner.network)


def test_a_wide_step_ahead_is_on_another_batch_than_the_real_one():
    deep, wide = (
        SPECS["two steps wide"].model_copy(update={"look_ahead": LookAhead(kind=kind, steps=1)})
        for kind in ("deep", "wide")
    )
    assert not same(train(deep)[0].teacher, train(wide)[0].teacher)


def _train_all(worker: Worker, folder: Path) -> None:
    found = ((name, *train(spec, worker=worker, dropout=0)) for name, spec in SPECS.items())
    keep(found, worker, folder)


@pytest.mark.slow
def test_two_workers_train_the_networks_of_one(tmp_path, monkeypatch):
    """Sums in another order: float32 rounding only, after five steps below 1e-4."""
    as_two_workers(_train_all, tmp_path, monkeypatch)
    for name, spec in SPECS.items():
        alone, expected = train(spec, dropout=0)  # which every worker draws for itself
        states, terms = kept_by_two(tmp_path, name, lambda spec=spec: begun(spec, seed=5))
        for found in terms:
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-5), name
        for ours, theirs, single in zip(*map(networks, (*states, alone)), strict=True):
            assert same(ours, theirs)
            assert furthest(ours, single) < 1e-4, name
        remembers_alike(states, alone, name)


def remembers_alike(states: list[TrainState], alone: TrainState, name: str) -> None:
    """Two workers remember of the pool and of h what one does, each the same to the bit."""
    assert same_running(*states), name
    pairs = [(states[0].running, alone.running)]
    if alone.partner is not None:
        ours, theirs = (each.partner for each in states)
        assert ours.baseline == theirs.baseline, name
        assert ours.baseline == pytest.approx(alone.partner.baseline, abs=1e-5), name
        first, second = ours.running.arrays(), theirs.running.arrays()
        assert all(np.array_equal(first[key], second[key]) for key in first), name
        pairs.append((ours.running, alone.partner.running))
    for found, expected in pairs:
        for key, value in expected.arrays().items():
            assert found.arrays()[key] == pytest.approx(value, abs=1e-4), (name, key)


def test_partners_remember_something_that_workers_could_disagree_about():
    meta, peer = (train(SPECS[name])[0].partner for name in ("meta teacher", "peer"))
    assert meta.baseline != 0
    assert peer.running.mean_confidence() > 0
