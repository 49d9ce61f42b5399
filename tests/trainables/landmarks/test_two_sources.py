"""Two networks that learn from sources of their own and absorb each other: laws and by hand."""

import copy

import pytest
import torch

from trainables.augment import PLAIN
from trainables.landmarks.decode import centre_candidates, fuse, nearest_candidate, peaks
from trainables.landmarks.encode import gaussians
from trainables.landmarks.network import (
    LandmarkNetworkSpec,
    Maps,
    Pyramid,
    build_landmark_network,
    maps_of,
)
from trainables.landmarks.rows import Frames
from trainables.landmarks.settings import LandmarkObjective, LandmarkTraining, TwoSources
from trainables.landmarks.terms import KnownTerms
from trainables.landmarks.two_sources import Fused, TwoSourceStep
from trainables.schedules import Linear, Moment
from trainables.teachers import Snapshots
from trainables.worker import Worker

NUM, STRIDE, CELLS = 3, 4, (8, 8)
NAN = float("nan")
SPEC = LandmarkNetworkSpec(backbone=Pyramid(width=8), width=16)
GOAL = LandmarkObjective(sigma_px=4.0)
ALWAYS = TwoSources(weight=1.0, view=PLAIN)


def network(seed: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_landmark_network(SPEC, 1, NUM)


def act(moment: Moment | None = None, **changes) -> TwoSourceStep:
    spec = ALWAYS.model_copy(update=changes)
    known = KnownTerms(GOAL, STRIDE, Worker())
    return TwoSourceStep(spec, known, moment or Moment(0, 10))


def frames(rows: int = 3) -> Frames:
    stream = torch.Generator().manual_seed(7)
    return Frames(*torch.rand(2, rows, 1, 32, 32, generator=stream))


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def floats(model) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights(model).items() if value.is_floating_point()}


def near(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(found[name], value, atol=1e-6) for name, value in wanted.items())


def mixed(one, other, share: float) -> dict[str, torch.Tensor]:
    return {name: share * value + (1 - share) * other[name] for name, value in one.items()}


# ---- the exchange


def test_each_network_absorbs_the_other_by_its_rate_the_calm_one_first():
    calm, radical = network(0), network(1)
    before, theirs = floats(calm), floats(radical)
    act(calm_rate=0.9, radical_rate=0.6).exchange(calm, radical, Snapshots())
    after = mixed(before, theirs, 0.9)
    assert near(floats(calm), after)
    assert near(floats(radical), mixed(theirs, after, 0.6))


@pytest.mark.parametrize(("calm_rate", "radical_rate"), [(None, 0.5), (0.5, None), (None, None)])
def test_without_a_rate_a_network_absorbs_nothing(calm_rate, radical_rate):
    calm, radical = network(0), network(1)
    before, theirs = floats(calm), floats(radical)
    act(calm_rate=calm_rate, radical_rate=radical_rate).exchange(calm, radical, Snapshots())
    assert near(floats(calm), before) == (calm_rate is None)
    assert near(floats(radical), theirs) == (radical_rate is None)


def test_a_rate_of_0_makes_the_calm_network_the_radical_one():
    calm, radical = network(0), network(1)
    act(calm_rate=0.0, radical_rate=None).exchange(calm, radical, Snapshots())
    assert near(floats(calm), floats(radical))


def test_networks_exchange_every_so_many_steps():
    moved = []
    for step in range(7):
        calm, radical = network(0), network(1)
        act(Moment(step, 10), every=3).exchange(calm, radical, Snapshots())
        moved.append(not near(floats(calm), floats(network(0))))
    assert moved == [True, False, False, True, False, False, True]


def test_the_calm_network_absorbs_the_mean_of_the_last_snapshots():
    calm, snapshots, seen = network(0), Snapshots(), []
    step = act(calm_rate=0.0, radical_rate=None, queue=3)
    for seed in range(1, 7):
        radical = network(seed)
        seen.append(floats(radical))
        step.exchange(calm, radical, snapshots)
        last = seen[-3:]
        mean = {name: torch.stack([each[name] for each in last]).mean(0) for name in last[0]}
        assert near(floats(calm), mean)
        assert len(snapshots.kept) == len(last)


def test_counters_of_batch_norm_are_left_alone():
    calm, radical = network(0), network(1)
    whole = {n: v for n, v in weights(calm).items() if not v.is_floating_point()}
    assert whole
    for value in radical.state_dict().values():
        if not value.is_floating_point():
            value += 5
    act(calm_rate=0.5).exchange(calm, radical, Snapshots())
    assert all(torch.equal(calm.state_dict()[name], value) for name, value in whole.items())


# ---- sources


def sources(model, shown: Frames, candidates: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Points by tracking and by detection."""
    here, beside = maps_of(model, shown.images), maps_of(model, shown.beside)
    tracked = peaks(beside.heat, STRIDE).points
    told = centre_candidates(here.centre, here.offsets, STRIDE, top=candidates)
    return tracked, nearest_candidate(told, tracked)


@torch.no_grad()
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_fused_points_are_a_share_of_tracking_and_the_rest_of_detection(share):
    model, shown = network(0).eval(), frames()
    tracked, detected = sources(model, shown)
    fused = act(tracking=share).fused(model, shown)
    assert torch.allclose(fused.points, fuse(tracked, detected, share))
    assert (fused.weight == 1).all()


@torch.no_grad()
def test_the_share_may_move_over_steps():
    model, shown = network(0).eval(), frames()
    tracked, detected = sources(model, shown)
    share = Linear(start=0.0, end=1.0, over="steps")
    last = act(Moment(10, 10), tracking=share).fused(model, shown)
    first = act(Moment(0, 10), tracking=share).fused(model, shown)
    assert torch.allclose(first.points, detected)
    assert torch.allclose(last.points, tracked)


@torch.no_grad()
def test_points_below_the_threshold_are_not_learned():
    model, shown = network(0).eval(), frames(8)
    peak = peaks(maps_of(model, shown.beside).heat, STRIDE).peak
    middle = peak.median().item()
    fused = act(threshold=middle).fused(model, shown)
    assert torch.equal(fused.weight, (peak >= middle).float())
    assert 0 < fused.weight.mean() < 1
    assert act(threshold=1.0).fused(model, shown).weight.sum() == 0


# ---- what the networks learn


def heat_of(points: torch.Tensor) -> torch.Tensor:
    """Logits of Gaussians around points."""
    return gaussians(points, CELLS, STRIDE, GOAL.sigma_px)[0].clamp_min(1e-30).log()


def maps(heat: torch.Tensor) -> Maps:
    return Maps(heat, heat[:, :1], heat.repeat(1, 2, 1, 1))


@pytest.mark.parametrize("learns", ["points", "heatmaps"])
def test_the_radical_network_comes_nearer_to_the_fused_points(learns):
    goal = torch.tensor([[[8.0, 8.0], [20.0, 12.0], [14.0, 22.0]]])
    fused = Fused(goal, torch.ones(1, NUM), torch.ones(1, NUM))
    heat = heat_of(goal + 3).clamp_min(-8).requires_grad_()
    before = (peaks(heat, STRIDE).points - goal).norm(dim=2).detach()
    move = torch.optim.Adam([heat], 0.1)
    for _ in range(60):
        move.zero_grad()
        act(learns=learns).radical(maps(heat), fused)["points"].backward()
        move.step()
    after = (peaks(heat, STRIDE).points - goal).norm(dim=2)
    assert (after < before / 2).all()


@pytest.mark.parametrize("learns", ["points", "heatmaps"])
def test_points_of_no_weight_teach_nothing(learns):
    goal = torch.tensor([[[8.0, 8.0], [20.0, 12.0], [14.0, 22.0]]])
    heat = heat_of(goal + 3).requires_grad_()
    act(learns=learns).radical(
        maps(heat), Fused(goal, torch.tensor([[1.0, 0, 0]]), torch.ones(1, NUM))
    )["points"].backward()
    assert heat.grad[0, 0].any()
    assert not heat.grad[0, 1:].any()


def test_the_calm_network_pays_for_heatmaps_and_extents_that_change():
    points = torch.tensor([[[8.0, 8.0], [20.0, 12.0], [14.0, 22.0]]])
    same = act().calm(maps(heat_of(points)), maps(heat_of(points)))
    assert same["agreement"] == 0
    assert same["structure"] == 0
    shifted = act().calm(maps(heat_of(points)), maps(heat_of(points + 4)))
    assert shifted["agreement"] > 0.1
    assert shifted["structure"] < 1e-6, "a shift changes no extent"
    grown = act().calm(maps(heat_of(points)), maps(heat_of(1.3 * points - 4)))
    assert grown["structure"] > 20 * shifted["structure"].item()


def test_weights_multiply_the_terms_and_ramp_up_over_steps():
    points = torch.tensor([[[8.0, 8.0], [20.0, 12.0], [14.0, 22.0]]])
    pair = (maps(heat_of(points)), maps(heat_of(1.3 * points - 4)))
    plain, double = act().calm(*pair), act(weight=2.0, heat=3.0, structure=0.02).calm(*pair)
    assert double["agreement"] == pytest.approx(6 * plain["agreement"].item())
    assert double["structure"] == pytest.approx(4 * plain["structure"].item(), rel=1e-4)
    ramp = TwoSources().weight
    values = [act(Moment(step, 10), weight=ramp).calm(*pair)["agreement"] for step in range(11)]
    assert values == sorted(values)
    assert values[0] < plain["agreement"] / 50


# ---- settings that do not go together


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"consistency": {}}, "consistency and two_sources exclude each other"),
        ({"batch": {"labelled": 4, "selected": 0}}, "batch.pool is 0 but the objective needs"),
        ({"two_sources": None}, "batch.pool has no effect without consistency or two_sources"),
        (
            {"two_sources": None, "consistency": {}},
            "consistency needs a teacher that follows: set teacher to {kind: ema}",
        ),
        ({"batch": {"labelled": 0, "pool": 4}}, "batch.labelled must be at least 1"),
        ({"optimiser": {"trains": "norm"}}, "optimiser.trains must be all"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    plain = {"two_sources": {}, "batch": {"labelled": 4, "selected": 0, "pool": 4}}
    LandmarkTraining.model_validate(copy.deepcopy(plain))
    with pytest.raises(ValueError, match=message):
        LandmarkTraining.model_validate(plain | changes)
