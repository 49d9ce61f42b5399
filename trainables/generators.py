"""Generators: new images of a class, made from pseudo-labelled ones or by a function of yours.

Legend: N images, n images of one class, H height, W width, D = channels * H * W.
"""

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field

from trainables.randomness import numpy_stream
from trainables.spec import Spec

Shape = tuple[int, int, int]


class Fitted(Protocol):
    """A generator that can make images."""

    def images(self, label: int, count: int, seed: int) -> np.ndarray:
        """Images uint8 [count, C, H, W] of a class; none of a class that it knows nothing of."""


class ClassGaussian(Spec):
    """A Gaussian in the space of each class's principal components.

    House generator: cheap, and no more than that. It knows the mean image of a class and the
    directions in which images of it differ, so what it makes is blurred and has no new parts; it is
    no diffusion model.
    """

    kind: Literal["class_gaussian"] = "class_gaussian"
    components: Annotated[int, Field(ge=1, le=1000)] = 32
    """Principal components of a class; fewer where it has fewer images."""
    spread: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Standard deviations are multiplied by this; 0 makes the mean image only."""
    fit_rows: Annotated[int, Field(ge=2, le=100_000)] = 2000
    """About as many pseudo-labelled images of each class are read, drawn by a hash of the id."""

    def fit(self, images: np.ndarray, labels: np.ndarray, shape: Shape) -> Fitted:
        """A generator like these images uint8 [N, C, H, W] of classes int64 [N]."""
        classes = {
            int(label): _fit_class(images[labels == label], self.components)
            for label in np.unique(labels)
        }
        return _Gaussians(classes, self.spread, shape)


class CallableGenerator(Spec):
    """Any function of yours, such as a class-conditional diffusion model's sampler."""

    kind: Literal["callable"] = "callable"
    target: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """``module.path:name`` of a function of a class, a count and a seed that returns images
    [count, C, H, W]: uint8, or floats in [0, 1]."""
    version: str = "1"
    """Change it when the function changes: images are found in the store by it, not by the code."""

    def fit(self, images: np.ndarray, labels: np.ndarray, shape: Shape) -> Fitted:
        """The function behind checks of what it returns.

        Raises:
            ValueError: There is no such function.
        """
        del images, labels
        module, _, name = self.target.partition(":")
        try:
            return _Called(getattr(importlib.import_module(module), name), shape)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"generator {self.target!r} can't be loaded: {error}") from error


Generator = Annotated[ClassGaussian | CallableGenerator, Field(discriminator="kind")]


class Extension(Spec):
    """Images made for each class that join the selection, with the class as their label.

    Source: You et al., Diffusion models and semi-supervised learners benefit mutually (DPT),
    NeurIPS 2023, arXiv:2302.10586: the generator is conditioned on pseudo-labels.
    """

    generator: Generator = ClassGaussian()
    """What makes the images."""
    per_class: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Images made for each class in each round that has a selection."""


@dataclass(frozen=True)
class _OneClass:
    """Mean image [D], directions [k, D] and standard deviations [k]."""

    mean: np.ndarray
    directions: np.ndarray
    deviations: np.ndarray


def _fit_class(images: np.ndarray, components: int) -> _OneClass:
    from sklearn.decomposition import PCA  # here: half a second that few runs need

    rows = images.reshape(len(images), -1).astype(np.float64) / 255
    num = min(components, len(rows) - 1, rows.shape[1])
    if num < 1:
        return _OneClass(rows.mean(axis=0), np.zeros((0, rows.shape[1])), np.zeros(0))
    found = PCA(num, svd_solver="randomized", random_state=0).fit(rows)
    return _OneClass(found.mean_, found.components_, np.sqrt(found.explained_variance_))


@dataclass(frozen=True)
class _Gaussians:
    classes: dict[int, _OneClass]
    spread: float
    shape: Shape

    def images(self, label: int, count: int, seed: int) -> np.ndarray:
        if label not in self.classes:
            return np.zeros((0, *self.shape), np.uint8)
        known = self.classes[label]
        drawn = numpy_stream(seed, "images", label).standard_normal((count, len(known.deviations)))
        rows = known.mean + (drawn * known.deviations * self.spread) @ known.directions
        pixels: np.ndarray = (rows.clip(0, 1) * 255).round().astype(np.uint8)
        return pixels.reshape(count, *self.shape)


@dataclass(frozen=True)
class _Called:
    function: Any
    shape: Shape

    def images(self, label: int, count: int, seed: int) -> np.ndarray:
        """Images uint8 [count, C, H, W].

        Raises:
            ValueError: The function returned something else.
        """
        return checked(self.function(label, count, seed), (count, *self.shape))


def checked(found: Any, shape: tuple[int, ...]) -> np.ndarray:
    """What a generator returned, as uint8 of this shape.

    Raises:
        ValueError: It is of another shape or type, or holds numbers outside [0, 1].
    """
    array = np.asarray(found)
    if array.shape != shape:
        raise ValueError(f"returned images {array.shape}, wanted {shape}")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"returned images of type {array.dtype}, wanted uint8 or floats in [0, 1]")
    if not np.isfinite(array).all() or array.min(initial=0) < 0 or array.max(initial=0) > 1:
        raise ValueError("returned images with numbers that are not in [0, 1]")
    return (array * 255).round().astype(np.uint8)
