"""Terms of known points: what counts how much, and how the shares of workers add up."""

from dataclasses import replace

import pytest
import torch

from trainables.landmarks.encode import centre_of, gaussians, offsets_at
from trainables.landmarks.network import Maps
from trainables.landmarks.rows import KnownBatch
from trainables.landmarks.settings import LandmarkObjective
from trainables.landmarks.terms import KnownTerms
from trainables.schedules import Linear, Moment
from trainables.worker import Worker

STRIDE, CELLS, NUM = 4, (8, 8), 3
NAN = float("nan")
GOAL = LandmarkObjective(sigma_px=4.0)
BEGIN, MIDDLE = Moment(0, 101), Moment(50, 101)


def terms(goal: LandmarkObjective = GOAL) -> KnownTerms:
    return KnownTerms(goal, STRIDE, Worker())


def batch(labelled: int = 4, selected: int = 0, seed: int = 0) -> KnownBatch:
    stream = torch.Generator().manual_seed(seed)
    rows = labelled + selected
    points = 4 + 24 * torch.rand(rows, NUM, 2, generator=stream)
    return KnownBatch(
        torch.zeros(rows, 1, 32, 32),
        points,
        torch.ones(rows, NUM),
        torch.arange(rows) < labelled,
        selected > 0,
    )


def guesses(rows: int, seed: int = 1) -> Maps:
    stream = torch.Generator().manual_seed(seed)
    shapes = ((rows, NUM, *CELLS), (rows, 1, *CELLS), (rows, 2 * NUM, *CELLS))
    return Maps(*(torch.randn(shape, generator=stream) for shape in shapes))


def perfect(points: torch.Tensor) -> Maps:
    """Maps that say exactly where the points are."""
    heat, _ = gaussians(points, CELLS, STRIDE, GOAL.sigma_px)
    steps, cell = offsets_at(points, centre_of(points, None), CELLS, STRIDE)
    centre = torch.full((len(points), 1, *CELLS), -20.0)
    centre.flatten(1).scatter_(1, cell[:, None], 20.0)
    offsets = steps.flatten(1)[..., None, None].expand(-1, -1, *CELLS)
    return Maps(heat.clamp_min(1e-30).log(), centre, offsets)


def parts(known: KnownBatch, at: slice) -> KnownBatch:
    rows = (known.images, known.points, known.weight, known.is_labelled)
    return KnownBatch(*(each[at] for each in rows), known.has_selected)


def test_maps_that_are_right_cost_next_to_nothing_and_others_more():
    known = batch()
    right = terms().of(perfect(known.points), known, MIDDLE)
    wrong = terms().of(perfect(known.points.flip(0)), known, MIDDLE)
    assert set(right) == {"heat", "centre", "offset"}
    for name, value in right.items():
        assert value < 1e-3, name
        assert wrong[name] > 100 * value + 0.01, name


def test_weights_of_terms_multiply_them_and_may_move_over_steps():
    known, maps = batch(), guesses(4)
    plain = terms().of(maps, known, MIDDLE)
    goal = GOAL.model_copy(update={"centre": 2.0, "offset": Linear(start=0, end=1, over="steps")})
    weighed = terms(goal).of(maps, known, MIDDLE)
    assert weighed["heat"] == plain["heat"]
    assert weighed["centre"] == pytest.approx(2 * plain["centre"].item())
    assert weighed["offset"] == pytest.approx(0.5 / 0.1 * plain["offset"].item())
    assert terms(goal).of(maps, known, BEGIN)["offset"] == 0


def test_the_heatmaps_of_labelled_rows_are_a_mean_over_their_known_points():
    known, maps = batch(), guesses(4)
    whole = terms().of(maps, known, MIDDLE)["heat"]
    rows = [
        terms().of(Maps(*(m[i : i + 1] for m in maps)), parts(known, slice(i, i + 1)), MIDDLE)
        for i in range(4)
    ]
    assert whole == pytest.approx(sum(row["heat"].item() for row in rows) / 4, rel=1e-5)
    lost = known.points.clone()
    lost[:, 0] = NAN
    without = replace(known, points=lost, weight=known.weight * lost.isfinite().all(dim=2))
    bare = Maps(maps.heat[:, 1:], maps.centre, maps.offsets[:, 2:])
    fewer = replace(known, points=known.points[:, 1:], weight=known.weight[:, 1:])
    found = terms().of(maps, without, MIDDLE)
    wanted = terms().of(bare, fewer, MIDDLE)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value.item(), rel=1e-5), name


def test_rows_of_which_nothing_is_known_cost_nothing():
    known = batch()
    nothing = replace(known, points=torch.full_like(known.points, NAN), weight=0 * known.weight)
    maps = guesses(4)
    for values in maps:
        values.requires_grad_()
    found = terms().of(maps, nothing, MIDDLE)
    assert sum(value.item() for value in found.values()) == 0
    sum(found.values()).backward()
    assert all(values.grad is None or not values.grad.any() for values in maps)


def test_pseudo_labelled_rows_count_beside_labelled_ones_by_their_weight():
    known, maps = batch(4, 3), guesses(7)
    alone = terms().of(Maps(*(m[:4] for m in maps)), parts(known, slice(4)), MIDDLE)
    alone_too = parts(batch(4, 3), slice(4))
    assert alone_too.has_selected
    plain = terms().of(maps, known, MIDDLE)
    assert plain["heat"] == pytest.approx(alone["heat"].item())
    half = terms(GOAL.model_copy(update={"selected": 0.5})).of(maps, known, MIDDLE)
    assert half["selected"] == pytest.approx(plain["selected"].item() / 2)
    for name in ("centre", "offset"):
        assert plain[name] - half[name] == pytest.approx(
            (half[name] - alone[name]).item(), rel=1e-4
        )


def test_few_trusted_points_of_a_batch_count_little():
    known, maps = batch(4, 4), guesses(8)
    weight = known.weight.clone()
    weight[4:] = 0
    weight[4, 0] = 1
    few = terms().of(maps, replace(known, weight=weight), MIDDLE)["selected"]
    one = terms().heat(maps.heat[4:5, :1], known.points[4:5, :1], torch.ones(1, 1))
    assert few == pytest.approx(one.item() / (4 * NUM), rel=1e-5)


def test_half_a_weight_is_half_of_the_term():
    known, maps = batch(), guesses(4)
    whole = terms().heat(maps.heat, known.points, known.weight)
    assert terms().heat(maps.heat, known.points, known.weight / 2) == pytest.approx(
        whole.item() / 2
    )


def test_a_share_without_pseudo_labelled_rows_has_the_terms_of_the_others():
    """Workers add up their terms one by one, so all of them must have the same."""
    known, maps = batch(4, 1), guesses(5)
    bare = terms().of(Maps(*(m[:4] for m in maps)), parts(known, slice(4)), MIDDLE)
    assert list(bare) == list(terms().of(maps, known, MIDDLE))
    assert bare["selected"] == 0
    assert all(torch.isfinite(value) for value in bare.values())
