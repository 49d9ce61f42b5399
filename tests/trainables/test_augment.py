import pytest
import torch
from pydantic import ValidationError

from trainables.augment import STRONG, WEAK, FeatureView, View, ViewSpec, view_of

STILL = ViewSpec(flip=0, translate=0)
ONE_AT_A_TIME = {
    name: STILL.model_copy(update={name: value})
    for name, value in {
        "flip": 0.5,
        "translate": 0.2,
        "rotate": 30.0,
        "scale": 0.3,
        "shear": 20.0,
        "brightness": 0.5,
        "contrast": 0.5,
        "saturation": 0.5,
        "hue": 0.2,
        "posterize": 0.5,
        "solarize": 0.5,
        "sharpen": 0.5,
        "erase": 0.5,
    }.items()
}
SPECS = {"weak": WEAK, "strong": STRONG} | ONE_AT_A_TIME
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def images(num: int = 7, channels: int = 3) -> torch.Tensor:
    return torch.rand(num, channels, 12, 12, generator=torch.Generator().manual_seed(0))


def seen(spec: ViewSpec, rows: list[int], seed: int, of: int = 7) -> torch.Tensor:
    return View(spec)(images(of)[rows], seed=seed, rows=rows, of=of)


def test_every_setting_that_acts_on_images_is_covered():
    of_features = {"feature_noise", "feature_drop"}
    assert set(ONE_AT_A_TIME) == set(ViewSpec.model_fields) - {"erase_share"} - of_features


@every_spec
@pytest.mark.parametrize(
    "split",
    [
        [[0, 2, 4, 6], [1, 3, 5]],
        [[0], [1], [2], [3], [4], [5], [6]],
        [[6, 5, 4, 3, 2, 1, 0]],
        [[3, 3, 3], []],
    ],
)
def test_a_row_has_the_same_view_however_the_batch_is_split(spec, split):
    for seed in range(5):
        whole = seen(spec, list(range(7)), seed)
        for rows in split:
            assert torch.equal(seen(spec, rows, seed), whole[rows])


@every_spec
def test_a_batch_of_one_has_a_view(spec):
    for seed in range(20):
        assert seen(spec, [0], seed, of=1).shape == (1, 3, 12, 12)


@every_spec
def test_values_stay_between_0_and_1(spec):
    extreme = (images(16, 3) > 0.5).float()
    for seed in range(5):
        found = View(spec)(extreme.clone(), seed=seed, rows=range(16), of=16)
        assert found.min() >= 0
        assert found.max() <= 1
        assert found.shape == extreme.shape


@every_spec
def test_every_setting_changes_some_image_and_the_seed_decides_which(spec):
    first, again, other = (seen(spec, list(range(7)), seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, images())


def test_zero_settings_leave_images_as_they_are():
    for seed in range(5):
        assert torch.equal(seen(STILL, list(range(7)), seed), images())


@every_spec
def test_the_global_generator_is_not_touched(spec):
    before = torch.get_rng_state()
    seen(spec, [0, 1], 3)
    assert torch.equal(before, torch.get_rng_state())


@every_spec
def test_the_given_images_are_not_changed(spec):
    given = images()
    View(spec)(given, seed=0, rows=range(7), of=7)
    assert torch.equal(given, images())


@every_spec
def test_what_was_drawn_before_has_no_say(spec):
    view = View(spec)
    first = view(images(), seed=4, rows=range(7), of=7)
    view(images(), seed=5, rows=range(7), of=7)
    assert torch.equal(view(images(), seed=4, rows=range(7), of=7), first)


def test_images_of_one_batch_get_different_views():
    same = images(1).expand(7, 3, 12, 12).contiguous()
    found = View(WEAK)(same, seed=0, rows=range(7), of=7)
    assert len({tuple(image.ravel().tolist()) for image in found}) > 1


def test_a_sure_flip_is_a_flip():
    flipped = seen(STILL.model_copy(update={"flip": 1.0}), list(range(7)), 0)
    assert torch.equal(flipped, images().flip(3))


@pytest.mark.parametrize("setting", ["saturation", "hue"])
def test_colours_of_grey_images_are_left_alone(setting):
    grey = images(channels=1)
    found = View(ONE_AT_A_TIME[setting])(grey.clone(), seed=1, rows=range(7), of=7)
    assert torch.equal(found, grey)


def test_a_posterized_image_keeps_at_least_four_bits():
    spec = STILL.model_copy(update={"posterize": 1.0})
    stored = images(32).mul(255).round() / 255
    found = View(spec)(stored.clone(), seed=0, rows=range(32), of=32)
    lost = ((found * 255).round() % 2 == 0).all(dim=3).all(dim=2).all(dim=1)
    assert lost.float().mean() > 0.7
    assert (stored - found).min() >= -1e-6
    assert (stored - found).max() <= 16 / 255


def test_a_solarized_image_holds_each_value_or_its_inverse():
    spec = STILL.model_copy(update={"solarize": 1.0})
    found = View(spec)(images(16), seed=0, rows=range(16), of=16)
    kept = torch.isclose(found, images(16), atol=1e-6)
    assert torch.isclose(found[~kept], 1 - images(16)[~kept], atol=1e-6).all()
    assert 0.2 < kept.float().mean() < 0.8


def test_brightness_and_contrast_stay_within_their_share():
    grey = torch.full((32, 1, 4, 4), 0.4)
    contrast = ONE_AT_A_TIME["contrast"]
    found = View(contrast)(grey.clone(), seed=0, rows=range(32), of=32)
    assert 0.2 - 1e-6 <= found.min() < found.max() <= 0.6 + 1e-6


def test_an_erased_rectangle_is_no_larger_than_its_share():
    spec = STILL.model_copy(update={"erase": 1.0, "erase_share": 0.25})
    found = View(spec)(torch.zeros(64, 1, 16, 16), seed=0, rows=range(64), of=64)
    erased = (found == 0.5).float().mean(dim=(1, 2, 3))
    assert erased.min() > 0
    # sides are rounded to whole pixels, which adds at most a row and a column
    assert erased.max() <= 0.25 + (4 * 16 + 1) / 256


def test_no_images_have_no_views():
    assert seen(STRONG, [], 0).shape == (0, 3, 12, 12)


@pytest.mark.parametrize(
    "fault", [{"flip": 1.2}, {"translate": 0.6}, {"scale": 1.0}, {"erase_share": 0}, {"blur": 1}]
)
def test_settings_outside_their_bounds_are_refused(fault):
    with pytest.raises(ValidationError):
        ViewSpec.model_validate(fault)


# geometry

SQUARE, WIDE = (48, 48), (40, 64)
SMALL_MOVES = {
    "flip": STILL.model_copy(update={"flip": 0.5}),
    "translate": STILL.model_copy(update={"translate": 0.1}),
    "rotate": STILL.model_copy(update={"rotate": 30.0}),
    "scale": STILL.model_copy(update={"scale": 0.2}),
    "shear": STILL.model_copy(update={"shear": 15.0}),
    "all": ViewSpec(translate=0.1, rotate=30, scale=0.2, shear=15),
}
every_move = pytest.mark.parametrize("spec", SMALL_MOVES.values(), ids=SMALL_MOVES.keys())


def blobs(size: tuple[int, int], num: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [num, 1, H, W] of one bright blob each near the centre, and where it is [num, 2]."""
    stream = torch.Generator().manual_seed(3)
    middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
    at = middle + 6 * torch.rand(num, 2, generator=stream) - 3
    return blobs_at(at, size), at


def blobs_at(at: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    across = (torch.arange(size[1]) - at[:, :1]).square()[:, None, :]
    down = (torch.arange(size[0]) - at[:, 1:]).square()[:, :, None]
    return torch.exp(-(across + down) / 8)[:, None]


def lights(images: torch.Tensor) -> torch.Tensor:
    """Where the light of each image has its mean, (x, y)."""
    mass = (images - images.amin(dim=(2, 3), keepdim=True))[:, 0]
    mass = mass / mass.sum(dim=(1, 2), keepdim=True)
    x = mass.sum(1) @ torch.arange(mass.shape[2]).float()
    return torch.stack([x, mass.sum(2) @ torch.arange(mass.shape[1]).float()], dim=1)


@every_spec
def test_the_view_with_its_geometry_is_the_view(spec):
    for seed in range(3):
        view, matrices = View(spec).with_geometry(images(), seed=seed, rows=range(7), of=7)
        assert torch.equal(view, seen(spec, list(range(7)), seed))
        assert matrices.shape == (7, 3, 3)
        assert matrices[:, 2].tolist() == [[0, 0, 1]] * 7


@every_move
@pytest.mark.parametrize("size", [SQUARE, WIDE], ids=str)
def test_what_is_seen_lies_where_the_matrices_say(spec, size):
    given, at = blobs(size)
    for seed in range(3):
        view, by = View(spec).with_geometry(given.clone(), seed=seed, rows=range(8), of=8)
        expected = (by @ torch.cat([at, torch.ones(8, 1)], dim=1)[:, :, None])[:, :2, 0]
        near = blobs_at(expected, size) > 1e-6  # not what the border mirrors
        assert torch.allclose(lights(view * near), expected, atol=0.05)


@every_move
def test_a_view_that_is_warped_back_is_the_image(spec):
    given, _ = blobs(SQUARE)
    view, by = View(spec).with_geometry(given.clone(), seed=1, rows=range(8), of=8)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)
    there = (by @ pixels)[:, :2].reshape(8, 2, 48, 48).permute(0, 2, 3, 1)
    grid = (there + 0.5) * 2 / 48 - 1
    back = torch.nn.functional.grid_sample(view, grid, align_corners=False)
    near = given > 0.01  # away from what the view shows twice or not at all
    spread = (back - given)[near]
    assert spread.abs().max() < 0.15  # two bilinear readings flatten the top
    assert spread.abs().mean() < 0.03
    assert torch.allclose(lights(back * near), lights(given * near), atol=0.1)


@every_move
def test_a_row_has_the_same_matrix_however_the_batch_is_split(spec):
    given, _ = blobs(SQUARE)
    whole = View(spec).with_geometry(given.clone(), seed=2, rows=range(8), of=8)[1]
    for rows in ([0, 2, 4, 6], [7, 1], [5]):
        part = View(spec).with_geometry(given[rows], seed=2, rows=rows, of=8)[1]
        assert torch.equal(part, whole[rows])


def test_colours_and_erasing_leave_the_geometry_alone():
    spec = STILL.model_copy(update={"brightness": 0.5, "contrast": 0.5, "erase": 1.0})
    found = View(spec).with_geometry(images(), seed=0, rows=range(7), of=7)[1]
    assert torch.equal(found, torch.eye(3).repeat(7, 1, 1))


def test_a_sure_flip_has_its_golden_matrix():
    spec = STILL.model_copy(update={"flip": 1.0})
    found = View(spec).with_geometry(images(2), seed=0, rows=range(2), of=2)[1]
    assert found.tolist() == [[[-1, 0, 11], [0, 1, 0], [0, 0, 1]]] * 2


def test_no_images_have_no_matrices():
    assert View(STRONG).with_geometry(images()[:0], seed=0, rows=[], of=7)[1].shape == (0, 3, 3)


# features

FEATURE_SPECS = {
    "noise": ViewSpec(feature_noise=0.5),
    "drop": ViewSpec(feature_drop=0.4),
    "both": STRONG,
}
every_feature_spec = pytest.mark.parametrize(
    "spec", FEATURE_SPECS.values(), ids=FEATURE_SPECS.keys()
)


def features(num: int = 7, width: int = 400) -> torch.Tensor:
    return torch.rand(num, width, 1, 1, generator=torch.Generator().manual_seed(0))


@every_feature_spec
@pytest.mark.parametrize("rows", [[0, 2, 4, 6], [6, 5, 1], [3], []])
def test_features_have_the_same_view_however_the_batch_is_split(spec, rows):
    view = view_of(spec, features=True)
    whole = view(features(), seed=3, rows=range(7), of=7)
    assert torch.equal(view(features()[rows], seed=3, rows=rows, of=7), whole[rows])
    assert not torch.equal(whole, features())
    assert not torch.equal(whole, view(features(), seed=4, rows=range(7), of=7))


def test_noise_on_features_is_as_large_as_it_says_and_leaves_the_given_rows_alone():
    given = features()
    found = FeatureView(ViewSpec(feature_noise=0.5))(given, seed=0, rows=range(7), of=7)
    size = (found - given).std(dim=1) / given.std(dim=1)
    assert size.flatten().tolist() == pytest.approx([0.5] * 7, rel=0.1)
    assert torch.equal(given, features())


def test_dropped_features_are_0_and_the_others_grow():
    found = FeatureView(ViewSpec(feature_drop=0.25))(features(), seed=0, rows=range(7), of=7)
    gone = found == 0
    assert float(gone.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.allclose(found[~gone], features()[~gone] / 0.75)


def test_the_weak_view_of_features_is_themselves():
    assert torch.equal(
        view_of(WEAK, features=True)(features(), seed=0, rows=range(7), of=7), features()
    )
