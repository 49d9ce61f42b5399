"""The first pass over a source: every image decoded once, every row kept or refused."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from orchestrator.data.examples import RawExample, Source, writable
from orchestrator.errors import DataError
from trainables.images import ImageError, decode

Label = int | tuple[float, ...]
"""A class, or float32 points [2K]."""


@dataclass(frozen=True)
class Row:
    """An example that can be used."""

    example: RawExample
    label: Label | None
    """Its class or points; None where they are not known."""
    pixels: str
    """Digest of the decoded pixels."""


@dataclass
class Checked:
    """What the first pass over a source found."""

    rows: list[Row] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """Id, origin and reason."""
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """How many images have each shape [C, H, W]."""

    @property
    def grouped(self) -> bool:
        """Whether any row is of a clip."""
        return any(row.example.group is not None for row in self.rows)


def check(source: Source, told: Callable[[int], None]) -> tuple[Checked, tuple[str, ...]]:
    """Rows, refused rows and the names of classes or points; ``told`` hears rows read so far.

    Raises:
        DataError: Two rows share an id, or a name can't be written.
    """
    checked = Checked()
    kept: list[tuple[RawExample, str, tuple[int, ...]]] = []
    origins: dict[str, str] = {}
    for number, example in enumerate(source.examples, start=1):
        if (first := origins.get(example.example_id)) is not None:
            raise DataError(
                f"two rows have the id {example.example_id!r}: {first} and {example.origin}; "
                "ids must be unique"
            )
        origins[example.example_id] = example.origin
        if not writable(f"{example.example_id}{example.origin}{example.group or ''}"):
            raise DataError(f"a row of {example.origin!r} has a name that UTF-8 can't hold")
        try:
            pixels = _read(source, example)
        except ImageError as error:
            checked.refused.append((example.example_id, example.origin, str(error)))
            continue
        checked.shapes[pixels.shape] += 1
        whole = f"{pixels.shape}/".encode() + pixels.tobytes()
        kept.append((example, hashlib.sha256(whole).hexdigest(), pixels.shape))
        if number % 500 == 0:
            told(number)
    seen = {e.label for e, _, _ in kept if e.part == "train" and e.label is not None}
    names = source.classes if source.classes is not None else labels_in_order(seen)
    index = {name: i for i, name in enumerate(names)}
    for example, digest, shape in kept:
        label: Label | None
        if source.points is None:
            label, reason = _class(example, index)
        else:
            label, reason = _points(example, names, shape)
        if reason:
            checked.refused.append((example.example_id, example.origin, reason))
        else:
            checked.rows.append(Row(example, label, digest))
    return checked, names


def labels_in_order(labels: set[str]) -> tuple[str, ...]:
    """Class names in their order: by number where all are numbers, else by name."""
    if all(name.lstrip("-").isdigit() for name in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _read(source: Source, example: RawExample) -> np.ndarray:
    """An example's pixels uint8 [C, H, W], or its features float16 [D, 1, 1].

    Raises:
        ImageError: The bytes are no image, hold features that are not finite, or the source could
            not read them.
    """
    if example.fault is not None:
        raise ImageError(example.fault)
    if source.embedding is None:
        return decode(example.content)
    features = np.frombuffer(example.content, np.float16).reshape(source.embedding.width, 1, 1)
    if not np.isfinite(features).all():
        raise ImageError("features that are not finite")
    return features


def _class(example: RawExample, index: dict[str, int]) -> tuple[int | None, str | None]:
    """The class of a row, and why it can't be used."""
    if example.label is None:
        needs = example.part in ("validation", "test")
        return None, f"a {example.part} row without a label" if needs else None
    if example.label not in index:
        return None, f"unknown class {example.label!r}"
    return index[example.label], None


def _points(
    example: RawExample, names: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[tuple[float, ...] | None, str | None]:
    """The points of a row as float32, and why it can't be used."""
    if example.points is None:
        needs = example.part in ("validation", "test")
        return None, f"a {example.part} row without points" if needs else None
    if len(example.points) != 2 * len(names):
        return None, f"{len(example.points)} coordinates for {len(names)} points"
    with np.errstate(over="ignore"):  # what float32 can't hold is infinite
        points = np.array(example.points, np.float32).reshape(-1, 2)
    if np.isnan(points).all():
        if example.part == "unlabelled":
            return None, None
        kind = "labelled" if example.part == "train" else example.part
        return None, f"a {kind} row in which no point is known"
    faults = _point_faults(points, names, shape)
    return tuple(points.ravel().tolist()), "; ".join(faults) or None


def _point_faults(points: np.ndarray, names: tuple[str, ...], shape: tuple[int, ...]) -> list[str]:
    """What is wrong with points float32 [K, 2] of an image [C, H, W], one line a point."""
    high, wide = shape[1:]
    sides = np.array([wide, high])
    half = np.isnan(points).sum(axis=1) == 1
    infinite = np.isinf(points).any(axis=1)
    outside = (points < -0.5 - sides / 2) | (points > 1.5 * sides - 0.5)
    faults = []
    for k, name in enumerate(names):
        x, y = points[k].tolist()
        if half[k]:
            faults.append(f"one coordinate only of {name!r}")
        elif infinite[k]:
            faults.append(f"{name!r} is not finite")
        elif outside[k].any():
            faults.append(f"{name!r} at ({x:g}, {y:g}) is far outside the {wide}x{high} image")
    return faults
