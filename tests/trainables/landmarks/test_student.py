"""Laws of a landmark fit: the same anew, after an interruption, and on two workers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.students import Stop, furthest, ignore, same
from tests.trainables.two_workers import as_two_workers, keep, kept_by_two
from trainables.augment import ViewSpec
from trainables.batches import BatchPlan
from trainables.checkpoint import state_from_bytes, state_to_bytes
from trainables.diagnostics import diagnosed_points
from trainables.landmarks.decode import peaks
from trainables.landmarks.network import (
    LandmarkNetworkSpec,
    Pyramid,
    build_landmark_network,
    maps_of,
)
from trainables.landmarks.rows import PointRows, PointSet
from trainables.landmarks.settings import (
    LandmarkObjective,
    LandmarkTraining,
    PointConsistency,
    TwoSources,
)
from trainables.landmarks.student import begin_landmarks, fit_landmarks
from trainables.optimiser import OptimiserSpec
from trainables.state import TrainState
from trainables.tasks.kinds import Points
from trainables.teachers import ExponentialAverage, QueueMean
from trainables.worker import Worker

SIDE, NUM, STEPS = 32, 3, 4
NAN = float("nan")
TASK = Points(num_points=NUM, mirrored=(1, 0, 2))
GOAL = LandmarkObjective(sigma_px=2.0)
PLAN = BatchPlan(labelled=6, selected=4, pool=5)
ALONE = BatchPlan(labelled=6, selected=4)
FLIPPED = ViewSpec(flip=0.5, translate=0.05, rotate=10)
RATE = OptimiserSpec(kind="adamw", learning_rate=0.002)
EMA = ExponentialAverage(decay=0.8)
SPECS = {
    "known points alone": LandmarkTraining(batch=ALONE, objective=GOAL, optimiser=RATE),
    "queue": LandmarkTraining(
        batch=ALONE, objective=GOAL, optimiser=RATE, teacher=QueueMean(length=2, push_every=1)
    ),
    "mean teacher": LandmarkTraining(
        batch=PLAN,
        objective=GOAL,
        optimiser=RATE,
        teacher=EMA,
        consistency=PointConsistency(weight=1.0, threshold=0.0, strong=FLIPPED),
    ),
    "two sources": LandmarkTraining(
        batch=PLAN,
        objective=GOAL,
        optimiser=RATE,
        two_sources=TwoSources(weight=1.0, calm_rate=0.8, radical_rate=0.9),
    ),
    "two sources and a queue": LandmarkTraining(
        batch=PLAN,
        objective=GOAL,
        optimiser=RATE,
        two_sources=TwoSources(
            weight=1.0,
            queue=3,
            calm_rate=0.5,
            radical_rate=None,
            told_by="calm",
            learns="points",
            deliver="radical",
        ),
    ),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
STILLS = {
    name: spec.model_copy(
        update={"two_sources": spec.two_sources.model_copy(update={"second": FLIPPED})}
        if spec.two_sources
        else {}
    )
    for name, spec in SPECS.items()
}


def network(seed: int = 0, norm: str = "batch"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = Pyramid(width=8, norm=norm)
        spec = LandmarkNetworkSpec(backbone=backbone, width=16, stride=4)
        return build_landmark_network(spec, 1, NUM)


def data(*, selected: bool = True, clip: bool = True) -> PointSet:
    """Images with three blobs of other widths, in a clip or on their own."""
    rng = np.random.default_rng(5)
    points = rng.uniform(6, 26, (26, NUM, 2)).astype(np.float32)
    down, across = np.mgrid[:SIDE, :SIDE]
    away = (across - points[..., :1, None]) ** 2 + (down - points[..., 1:, None]) ** 2
    light = np.exp(-away / (2 * np.array([1.0, 2.0, 3.5])[:, None, None] ** 2)).max(axis=1)
    bank = torch.from_numpy(np.rint(255 * light)[:, None].astype(np.uint8))
    known = torch.from_numpy(points)
    labelled = known[:8].clone()
    labelled[2, 1] = NAN
    weights = torch.from_numpy(rng.random((7, NUM)).astype(np.float32))
    weights[3] = torch.tensor([0.0, 0.0, 1.0])
    near = np.stack([np.arange(14, 25), np.arange(16, 27)], axis=1)
    near[0, 0], near[-1, 1] = -1, -1
    return PointSet(
        PointRows(bank, np.arange(8), labelled),
        PointRows(bank, np.arange(8, 15), known[8:15], weights) if selected else None,
        PointRows(bank, np.arange(15, 26)),
        near if clip else None,
    )


def begun(
    spec: LandmarkTraining, seed: int = 0, worker: Worker | None = None, norm: str = "batch"
) -> TrainState:
    partner = network(seed + 11, norm) if spec.two_sources is not None else None
    return begin_landmarks(spec, network(seed, norm), worker or Worker(), partner)


def train(
    spec: LandmarkTraining,
    *,
    seed: int = 3,
    worker: Worker | None = None,
    norm: str = "batch",
    on: PointSet | None = None,
    steps: int = STEPS,
    listen=ignore,
) -> tuple[TrainState, dict[str, float]]:
    state = begun(spec, worker=worker, norm=norm)
    return state, fit(spec, state, seed=seed, worker=worker, on=on, steps=steps, listen=listen)


def fit(
    spec: LandmarkTraining,
    state: TrainState,
    *,
    seed: int = 3,
    worker: Worker | None = None,
    on: PointSet | None = None,
    steps: int = STEPS,
    listen=ignore,
) -> dict[str, float]:
    rows, one = on or data(), worker or Worker()
    return fit_landmarks(spec, state, rows, TASK, steps, seed=seed, worker=one, listen=listen)


def in_plain_steps(spec: LandmarkTraining) -> LandmarkTraining:
    """The same by gradient descent, which does not make small differences large as AdamW does."""
    return spec.model_copy(update={"optimiser": OptimiserSpec(learning_rate=0.02)})


def networks(state: TrainState) -> list[torch.nn.Module]:
    found = [state.student, state.teacher]
    return found + ([state.partner.network] if state.partner else [])


# ---- what every fit keeps


@every_spec
def test_every_network_moves_and_stays_finite(spec):
    before, (state, terms) = begun(spec), train(spec)
    assert state.step == STEPS
    for old, new in zip(networks(before), networks(state), strict=True):
        assert not same(old, new)
        assert all(torch.isfinite(p).all() for p in new.parameters())
    assert all(math.isfinite(value) for value in terms.values())


@every_spec
def test_the_loss_is_the_sum_of_its_terms(spec):
    terms = train(spec)[1]
    calm = {name for name in terms if name.startswith("calm_")}
    for prefix, names in (("", terms.keys() - calm), ("calm_", calm)):
        parts = [terms[name] for name in names if name != f"{prefix}loss"]
        assert sum(parts) == pytest.approx(terms.get(f"{prefix}loss", 0.0), rel=1e-5)


def test_the_terms_are_called_by_what_they_teach():
    known = {"loss", "heat", "centre", "offset", "selected"}
    assert set(train(SPECS["known points alone"])[1]) == known
    assert set(train(SPECS["mean teacher"])[1]) == known | {"consistency"}
    calm = {f"calm_{name}" for name in {*known, "agreement", "structure"}}
    assert set(train(SPECS["two sources"])[1]) == known | {"points"} | calm
    alone = train(SPECS["known points alone"], on=data(selected=False))[1]
    assert set(alone) == known - {"selected"}


@every_spec
def test_the_same_seed_gives_the_same_networks_and_another_seed_others(spec):
    first, again, other = (train(spec, seed=seed)[0] for seed in (3, 3, 4))
    for ours, theirs in zip(networks(first), networks(again), strict=True):
        assert same(ours, theirs)
    assert not same(first.student, other.student)


@pytest.mark.parametrize("clip", [True, False], ids=["clip", "stills"])
@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("name", SPECS)
def test_an_interrupted_fit_ends_bit_for_bit_where_it_would_have(name, stop, clip):
    spec, rows = (SPECS if clip else STILLS)[name], data(clip=clip)
    whole, _ = train(spec, on=rows)
    kept = []

    def leave(progress, state) -> None:
        if progress.step == stop:
            kept.append(state_to_bytes(state))
            raise Stop

    with pytest.raises(Stop):
        train(spec, on=rows, listen=leave)
    resumed = begun(spec, seed=5)
    state_from_bytes(kept[0], resumed)
    assert resumed.step == stop
    fit(spec, resumed, on=rows)
    for ours, theirs in zip(networks(whole), networks(resumed), strict=True):
        assert same(ours, theirs)


def test_the_global_generator_is_left_as_it_was_and_has_no_say():
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        results.append(train(SPECS["two sources"])[0])
        assert torch.equal(torch.random.get_rng_state(), before)
    assert same(results[0].student, results[1].student)


# ---- what is theirs


def test_the_network_that_is_delivered_is_the_one_that_the_settings_name():
    calm, radical = (train(SPECS[f"two sources{end}"])[0] for end in ("", " and a queue"))
    assert calm.teacher is calm.partner.network
    assert radical.teacher is radical.student


def test_two_sources_need_two_networks():
    with pytest.raises(ValueError, match="two sources need two networks"):
        begin_landmarks(SPECS["two sources"], network(), Worker())


def test_more_workers_than_labelled_rows_are_refused():
    with pytest.raises(ValueError, match="7 workers share 6 labelled rows"):
        train(SPECS["known points alone"], worker=Worker(0, 7))


def test_batches_of_points_are_not_cut():
    with pytest.raises(ValueError, match="rows_per_pass does not cut batches of landmarks"):
        train(SPECS["known points alone"], worker=Worker(rows_per_pass=2))


def test_a_term_of_no_weight_leaves_the_student_where_it_was():
    spec = SPECS["mean teacher"]
    off = spec.model_copy(update={"consistency": PointConsistency(weight=0.0, strong=FLIPPED)})
    unsure = spec.model_copy(update={"consistency": PointConsistency(threshold=1.0, weight=1.0)})
    for each in (off, unsure):
        assert train(each)[1]["consistency"] == 0


def test_networks_that_never_exchange_learn_from_their_own_terms_alone():
    apart = TwoSources(weight=0.0, calm_rate=None, radical_rate=None)
    spec = in_plain_steps(SPECS["two sources"]).model_copy(update={"two_sources": apart})
    state, terms = train(spec, norm="group")
    alone = train(in_plain_steps(SPECS["known points alone"]), norm="group")
    assert terms["points"] == terms["calm_agreement"] == 0
    assert furthest(state.partner.network, alone[0].student) < 1e-5


def test_a_fit_learns_where_the_points_are():
    goal = LandmarkObjective(sigma_px=2.0, labelled_view=ViewSpec(flip=0, translate=0.1))
    spec = SPECS["known points alone"].model_copy(update={"objective": goal})
    rows = data()
    images = rows.selected.stored(np.arange(7)).float() / 255
    away = []
    for steps in (1, 60):
        state, _ = train(spec, steps=steps, on=rows)
        with torch.no_grad():
            found = peaks(maps_of(state.teacher.eval(), images).heat, 4).points
        away.append((found - rows.selected.points).norm(dim=2).mean())
    assert away[1] < away[0] / 2


# ---- what steps accept


def bounded(kind: str, threshold: float) -> LandmarkTraining:
    """A training whose steps learn the pool's points from this peak on."""
    field, term = {
        "mean teacher": (
            "consistency",
            PointConsistency(weight=1.0, threshold=threshold, strong=FLIPPED),
        ),
        "two sources": ("two_sources", TwoSources(weight=1.0, threshold=threshold)),
    }[kind]
    return SPECS[kind].model_copy(update={field: term})


@pytest.mark.parametrize("kind", ["mean teacher", "two sources"])
@pytest.mark.parametrize(("threshold", "share"), [(0.0, None), (1.0, 0.0)])
def test_points_that_steps_accept_are_counted_by_name(kind, threshold, share):
    spec = bounded(kind, threshold)
    told = diagnosed_points(spec, train(spec, steps=8)[0], 8).in_step
    assert told.rows == 2 * spec.batch.pool * NUM  # a quarter of the steps
    assert sum(told.class_rows) == told.accepted_share * told.rows
    assert (told.accepted_share == share) if share is not None else told.accepted_share > 0
    assert 0 < told.mean_confidence < 1
    assert (told.entropy_of_mean, told.not_finite, told.accepts_all) == (None, 0, threshold == 0)
    alone = SPECS["known points alone"]
    assert diagnosed_points(alone, train(alone)[0], STEPS).in_step is None


def test_weights_of_both_networks_are_told():
    both = TwoSources(weight=0.5, heat=2.0, structure=0.1)
    spec = SPECS["two sources"].model_copy(update={"two_sources": both})
    told = diagnosed_points(spec, train(spec)[0], STEPS).term_weights
    assert told["points"] == 0.5
    assert (told["calm_agreement"], told["calm_structure"]) == (1, 0.05)


@pytest.mark.parametrize("kind", ["mean teacher", "two sources"])
def test_counts_of_points_survive_an_interruption(kind):
    spec, kept = SPECS[kind], []

    def leave(progress, state) -> None:
        if progress.step == 7:
            kept.append(state_to_bytes(state))
            raise Stop

    with pytest.raises(Stop):
        train(spec, steps=8, listen=leave)
    resumed = begun(spec, seed=5)
    state_from_bytes(kept[0], resumed)
    fit(spec, resumed, steps=8)
    whole = train(spec, steps=8)[0]
    told = [s.running.tally.told(accepts_all=False) for s in (resumed, whole)]
    assert told[0] == told[1]


# ---- workers


FEW = {  # not every worker has a selected row and one of the pool
    name: SPECS[name].model_copy(
        update={"batch": BatchPlan(labelled=3, selected=1, pool=1 if SPECS[name].batch.pool else 0)}
    )
    for name in ("known points alone", "mean teacher", "two sources")
}
SHARED = {
    name: in_plain_steps(spec)
    for name, spec in (SPECS | {f"few rows, {name}": spec for name, spec in FEW.items()}).items()
}


def _train_all(worker: Worker, folder: Path) -> None:
    found = ((name, *train(spec, worker=worker, norm="group")) for name, spec in SHARED.items())
    keep(found, worker, folder)


@pytest.mark.slow
def test_two_workers_train_the_networks_of_one(tmp_path, monkeypatch):
    """Sums in another order: after a few steps below 1e-3 with group norm."""
    as_two_workers(_train_all, tmp_path, monkeypatch)
    for name, spec in SHARED.items():
        alone, expected = train(spec, norm="group")
        states, terms = kept_by_two(
            tmp_path, name, lambda spec=spec: begun(spec, seed=5, norm="group")
        )
        for found in terms:
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-4), name
        for ours, theirs, single in zip(*map(networks, (*states, alone)), strict=True):
            assert same(ours, theirs), name
            assert furthest(ours, single) < 1e-3, name
