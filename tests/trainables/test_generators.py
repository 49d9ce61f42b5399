"""Generators: images of a class from images of it, and checks of what functions return."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from trainables.generators import CallableGenerator, ClassGaussian, Generator, checked

SHAPE = (1, 6, 6)


def pictures(per_class: int = 40, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images of a class are bright in one row, which is that class's own."""
    stream = np.random.default_rng(0)
    images = stream.integers(0, 60, (per_class * classes, *SHAPE)).astype(np.uint8)
    labels = np.repeat(np.arange(classes), per_class)
    for at, label in enumerate(labels):
        images[at, 0, label] = 200
    return images, labels


def fitted(**settings):
    return ClassGaussian(**settings).fit(*pictures(), SHAPE)


def test_made_images_look_like_their_class():
    for label in range(3):
        made = fitted().images(label, 50, seed=1)
        assert made.shape == (50, *SHAPE)
        assert made.dtype == np.uint8
        assert made.astype(float).mean(axis=(0, 1, 3)).argmax() == label
        assert len(np.unique(made, axis=0)) == 50


def test_the_seed_and_the_class_decide_the_images():
    one = fitted().images(1, 5, seed=1)
    assert np.array_equal(one, fitted().images(1, 5, seed=1))
    assert not np.array_equal(one, fitted().images(1, 5, seed=2))
    assert np.array_equal(one[:3], fitted().images(1, 3, seed=1)), "more images keep the first"


def test_made_images_have_the_mean_and_the_spread_of_the_class():
    images, labels = pictures(400)
    made = ClassGaussian(components=36).fit(images, labels, SHAPE).images(0, 4000, seed=0)
    real = images[labels == 0]
    assert made.mean(axis=0) == pytest.approx(real.mean(axis=0), abs=3)
    inner = (slice(None), 0, slice(1, None))  # what is not constant; clipped at black
    assert made[inner].std(axis=0).mean() == pytest.approx(real[inner].std(axis=0).mean(), rel=0.15)


def test_without_spread_every_image_is_the_mean():
    made = fitted(spread=0).images(2, 4, seed=0)
    images, labels = pictures()
    assert len(np.unique(made, axis=0)) == 1
    assert made[0] == pytest.approx(images[labels == 2].mean(axis=0), abs=0.51)


def test_a_class_without_images_gets_none_and_one_image_is_repeated():
    images, labels = pictures()
    keep = (labels == 0) | (np.arange(len(labels)) == 41)
    generator = ClassGaussian().fit(images[keep], labels[keep], SHAPE)
    assert generator.images(2, 5, seed=0).shape == (0, *SHAPE)
    assert (generator.images(1, 3, seed=0) == images[41]).all()


def test_nothing_selected_makes_nothing():
    empty = ClassGaussian().fit(np.zeros((0, *SHAPE), np.uint8), np.zeros(0, np.int64), SHAPE)
    assert len(empty.images(0, 5, seed=0)) == 0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.zeros((2, 6, 6)), r"images \(2, 6, 6\), wanted \(2, 1, 6, 6\)"),
        (np.zeros((3, *SHAPE)), r"images \(3, 1, 6, 6\), wanted \(2, 1, 6, 6\)"),
        (np.zeros((2, *SHAPE), np.int64), "type int64, wanted uint8 or floats"),
        (np.full((2, *SHAPE), 1.01), r"not in \[0, 1\]"),
        (np.full((2, *SHAPE), -0.01), r"not in \[0, 1\]"),
        (np.full((2, *SHAPE), np.nan), r"not in \[0, 1\]"),
        (None, "wanted"),
    ],
)
def test_what_is_no_image_is_refused(found, message):
    with pytest.raises(ValueError, match=message):
        checked(found, (2, *SHAPE))


def test_floats_become_bytes_and_bytes_stay():
    assert (checked(np.full((2, *SHAPE), 0.5, np.float32), (2, *SHAPE)) == 128).all()
    own = np.full((2, *SHAPE), 7, np.uint8)
    assert checked(own, (2, *SHAPE)) is own


def test_a_function_that_is_nowhere_is_refused():
    with pytest.raises(ValueError, match="generator 'no_module:make' can't be loaded"):
        CallableGenerator(target="no_module:make").fit(*pictures(), SHAPE)
    with pytest.raises(ValidationError, match="should match pattern"):
        TypeAdapter(Generator).validate_python({"kind": "callable", "target": "make"})
