"""Rows with points: views move points with their pixels, neighbours, and what workers share."""

import numpy as np
import pytest
import torch

from trainables.augment import PLAIN, ViewSpec
from trainables.batches import BatchPlan
from trainables.landmarks.decode import peaks
from trainables.landmarks.rows import PointLoader, PointRows, PointSet
from trainables.landmarks.settings import (
    LandmarkObjective,
    LandmarkTraining,
    PointConsistency,
    TwoSources,
)
from trainables.teachers import ExponentialAverage
from trainables.worker import Worker

SIDE, NUM = 32, 3
NAN = float("nan")
MIRRORED = (1, 0, 2)
FLIP = ViewSpec(flip=1.0, translate=0)
TURNED = ViewSpec(flip=0.5, translate=0.1, rotate=20, scale=0.1)
EMA = ExponentialAverage(decay=0.9)


def spots(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with a bright pixel in a blob at each point, one point a channel, and the points."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(10, 22, (count, NUM, 2)).astype(np.float32)
    down, across = np.mgrid[:SIDE, :SIDE]
    away = (across - points[..., :1, None]) ** 2 + (down - points[..., 1:, None]) ** 2
    images = np.rint(255 * np.exp(-away / 4)).astype(np.uint8)
    return torch.from_numpy(images), torch.from_numpy(points)


def rows_of(*, selected: bool = False, clip: bool = False) -> PointSet:
    bank, points = spots(24)
    known = points[:8].clone()
    known[1, 2] = NAN
    chosen = None
    if selected:
        weights = torch.rand(6, NUM, generator=torch.Generator().manual_seed(2))
        weights[0, 0] = 0
        chosen = PointRows(bank, np.arange(8, 14), points[8:14], weights)
    near = np.stack([np.arange(13, 23), np.arange(15, 25)], axis=1)
    near[0, 0], near[-1, 1], near[4] = -1, -1, -1
    labelled, pool = PointRows(bank, np.arange(8), known), PointRows(bank, np.arange(14, 24))
    return PointSet(labelled, chosen, pool, near if clip else None)


def loader(  # noqa: PLR0913 - what a loader may differ in
    data: PointSet,
    view: ViewSpec = TURNED,
    *,
    two: TwoSources | None = None,
    weak: ViewSpec = TURNED,
    strong: ViewSpec = TURNED,
    worker: Worker | None = None,
    seed: int = 3,
    mirrored: tuple[int, ...] = MIRRORED,
) -> PointLoader:
    consistency = PointConsistency(weak=weak, strong=strong) if two is None else None
    spec = LandmarkTraining(
        batch=BatchPlan(labelled=5, selected=4, pool=6),
        objective=LandmarkObjective(labelled_view=view, selected_view=view),
        consistency=consistency,
        two_sources=two,
        teacher=EMA if two is None else {"kind": "student"},
    )
    return PointLoader(spec, data, mirrored, seed=seed, worker=worker or Worker())


def brightest(images: torch.Tensor) -> torch.Tensor:
    """Where each channel's blob lies, [B, C, 2]."""
    return peaks((images * 60).float(), 1, window=7).points


# ---- known rows


@pytest.mark.parametrize("view", [PLAIN, FLIP, TURNED], ids=["plain", "mirrored", "turned"])
def test_points_move_with_their_pixels(view):
    load = loader(rows_of(), view, mirrored=(0, 1, 2))  # channels keep their names
    for step in range(3):
        batch = load.known(step)
        known = batch.points.isfinite().all(dim=2)
        away = (brightest(batch.images) - batch.points).norm(dim=2)[known]
        assert away.max() < 0.8  # blobs are read between pixels


def test_an_unknown_point_stays_unknown_and_weighs_nothing():
    batch = loader(rows_of(), PLAIN).known(0)
    unknown = batch.points.isnan().any(dim=2)
    assert unknown.sum() <= 2
    assert (batch.weight == (~unknown).float()).all()
    every = [loader(rows_of(), PLAIN).known(step) for step in range(2)]
    assert any(bool(b.points.isnan().any()) for b in every)


def test_points_that_leave_the_view_are_unknown():
    far = ViewSpec(flip=0, translate=0.5)
    batches = [loader(rows_of(), far).known(step) for step in range(8)]
    points = torch.cat([b.points for b in batches])
    held = points[points.isfinite().all(dim=2)]
    assert ((held >= -0.5) & (held < SIDE - 0.5)).all()
    assert points.isnan().any()


def test_weights_follow_the_names_of_their_points_into_the_mirror():
    data = rows_of(selected=True)
    plain, flipped = loader(data, PLAIN).known(0), loader(data, FLIP).known(0)
    assert torch.equal(flipped.weight, plain.weight[:, list(MIRRORED)])
    mirror = plain.points[:, list(MIRRORED)].clone()
    mirror[..., 0] = SIDE - 1 - mirror[..., 0]
    assert torch.allclose(flipped.points, mirror, atol=1e-3, equal_nan=True)


def test_labelled_rows_come_first_and_selected_ones_bring_their_weights():
    data = rows_of(selected=True)
    batch = loader(data, PLAIN).known(0)
    assert batch.is_labelled.tolist() == [True] * 5 + [False] * 4
    assert batch.has_selected
    assert not loader(rows_of(), PLAIN).known(0).has_selected
    told = {tuple(row.tolist()) for row in data.selected.weights}
    assert {tuple(row.tolist()) for row in batch.weight[5:]} <= told


def test_the_same_step_gives_the_same_batch_and_another_step_or_seed_another():
    data = rows_of(selected=True)
    first, again = (loader(data).known(4) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, loader(data).known(5).images)
    assert not torch.equal(first.images, loader(data, seed=4).known(4).images)


def in_turn(parts: list[torch.Tensor]) -> torch.Tensor:
    """The rows of workers as one batch has them."""
    whole = torch.empty(sum(map(len, parts)), *parts[0].shape[1:])
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_workers_are_the_whole_batch(world):
    data = rows_of(selected=True, clip=True)
    workers = [Worker(rank, world) for rank in range(world)]
    for two in (None, TwoSources(view=TURNED, second=TURNED)):
        whole = loader(data, two=two)
        parts = [loader(data, two=two, worker=worker) for worker in workers]
        batch, shares = whole.known(2), [part.known(2) for part in parts]
        for name in ("images", "points", "weight"):
            for labelled in (True, False):
                mine = [getattr(s, name)[s.is_labelled == labelled] for s in shares]
                wanted = getattr(batch, name)[batch.is_labelled == labelled]
                assert torch.allclose(in_turn(mine), wanted, atol=1e-5, equal_nan=True)
        kind = "two_views" if two is None else "frames"
        batch, shares = getattr(whole, kind)(2), [getattr(part, kind)(2) for part in parts]
        for name in batch.__dataclass_fields__:
            mine = [getattr(share, name) for share in shares]
            assert torch.allclose(in_turn(mine), getattr(batch, name), atol=1e-5)


# ---- pool rows


def test_points_of_the_weak_view_are_found_in_the_strong_one():
    load = loader(rows_of(), weak=ViewSpec(flip=0, rotate=10), strong=ViewSpec(flip=0, rotate=20))
    views = load.two_views(1)
    weak, strong = brightest(views.weak), brightest(views.strong)
    moved = torch.cat([weak, torch.ones(*weak.shape[:2], 1)], dim=2) @ views.to_strong.mT
    assert (moved[..., :2] - strong).norm(dim=2).max() < 1


def test_a_neighbour_is_one_of_the_clips_frames_and_every_one_is_drawn():
    data = rows_of(clip=True)
    load = loader(data, two=TwoSources(view=PLAIN))
    seen = {
        (row, beside)
        for step in range(60)
        for row, beside in zip(
            load._drawn(step)[0].tolist(),
            load._neighbours(load._drawn(step)[0], step, np.arange(6), 6).tolist(),
            strict=True,
        )
    }
    wanted = {(row, near) for row in range(10) for near in data.neighbours[row] if near >= 0}
    assert {pair for pair in seen if pair[1] >= 0} == wanted
    assert {row for row, near in seen if near < 0} == {4}, "it has no neighbours"


def test_a_neighbour_that_is_the_frame_itself_looks_like_it():
    pytest.importorskip("cv2")
    data = rows_of()
    itself = np.arange(14, 24)[:, None].repeat(2, axis=1)
    data = PointSet(data.labelled, None, data.pool, itself)
    frames = loader(data, two=TwoSources(view=TURNED)).frames(0)
    assert (frames.images - frames.beside).abs().max() < 0.05


def test_a_neighbour_is_moved_onto_the_frame():
    """Frames that are the same picture two pixels apart lie over one another afterwards."""
    pytest.importorskip("cv2")
    smooth = torch.nn.functional.avg_pool2d(
        torch.rand(1, 1, 44, 44, generator=torch.Generator().manual_seed(0)), 5, 1
    )[0]
    texture = ((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255).byte()
    bank = torch.stack([texture[:, 4:36, 4:36], texture[:, 4:36, 6:38]])
    pool = PointRows(bank, np.array([0]))
    labelled = PointRows(bank, np.array([0]), torch.full((1, NUM, 2), 5.0))
    data = PointSet(labelled, None, pool, np.array([[1, 1]]))
    frames = loader(data, two=TwoSources(view=PLAIN)).frames(0)
    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    apart = (frames.images - frames.beside)[inner].abs().mean()
    raw = (bank[0].float() - bank[1].float())[:, 6:-6, 6:-6].abs().mean() / 255
    assert apart < raw / 3


@pytest.mark.parametrize("view", [PLAIN, TURNED], ids=["plain", "turned"])
def test_a_still_image_has_a_second_view_that_is_moved_back_onto_the_first(view):
    second = ViewSpec(flip=0.5, translate=0.05, rotate=20)
    frames = loader(rows_of(), two=TwoSources(view=view, second=second)).frames(0)
    assert not torch.equal(frames.images, frames.beside)
    away = (brightest(frames.images) - brightest(frames.beside)).norm(dim=2)
    assert away.max() < 1
    plain = loader(rows_of(), two=TwoSources(view=view, second=PLAIN)).frames(0)
    assert torch.equal(plain.images, frames.images)


def test_images_of_a_step_are_counted_over_all_workers():
    data = rows_of(selected=True)
    assert loader(data).images_per_step == 5 + 4 + 6
    assert loader(data, two=TwoSources()).images_per_step == 5 + 4 + 2 * 6
    assert loader(rows_of(), worker=Worker(0, 2)).images_per_step == 5 + 6
