"""COCO keypoints files: one row for each annotation, cut out where an image has several."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.data.crops import square
from orchestrator.data.examples import Found, Part, RawExample, read_image
from orchestrator.data.landmark_names import names_of, read_json
from orchestrator.data.parquet_files import part_of
from orchestrator.errors import DataError
from trainables.images import ImageError, decode

GROWN = 1.2
"""By how much the box of an annotation grows before it is cut out."""
SHOWN = 5


@dataclass(frozen=True)
class _Annotation:
    name: str
    """Its id."""
    points: tuple[float, ...] | None
    """x0, y0, x1, ...; None where no point is known."""
    box: tuple[float, float, float, float] | None
    """Left, top, right, bottom."""
    fault: str | None


@dataclass(frozen=True)
class _Image:
    name: str
    """Its file, as the JSON file calls it."""
    path: Path | None
    """None: it was not found."""
    annotations: tuple[_Annotation, ...]


def coco(file: Path) -> Found:
    """Rows of a COCO keypoints file; images lie in its folder or below ``images/`` there.

    An annotation of which no point is known, and an image without annotations, are unlabelled.

    Raises:
        DataError: It is no such file; the first faults are named.
    """
    content = read_json(file)
    parts = ("images", "annotations", "categories")
    missing = [
        name
        for name in parts
        if not isinstance(content, dict) or not isinstance(content.get(name), list)
    ]
    if missing:
        raise DataError(f"{file} is no COCO keypoints file: it has no list {', '.join(missing)}")
    faults: list[str] = []
    names = _names(content["categories"], faults)
    images = _images(file, content, names, faults)
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(f"{file}: {'; '.join(faults[:SHOWN])}{more}")
    paths = frozenset(image.path for image in images if image.path is not None)
    return Found(file.name, _examples(file, images), 2 * len(names), names, paths)


def _names(categories: list[Any], faults: list[str]) -> tuple[str, ...]:
    """The points of the categories that have any; they must all have the same."""
    found = {
        names_of(category["keypoints"], "keypoints of a category", faults)
        for category in categories
        if isinstance(category, dict) and category.get("keypoints")
    }
    if not found:
        faults.append("no category has keypoints")
    elif len(found) > 1:
        told = " / ".join(sorted(", ".join(names) for names in found))
        faults.append(f"categories have other keypoints: {told}")
    return min(found, default=())


def _images(
    file: Path, content: dict[str, Any], names: tuple[str, ...], faults: list[str]
) -> list[_Image]:
    files: dict[int | str, str] = {}
    for i, image in enumerate(content["images"]):
        key = _key(image, "id")
        name = image.get("file_name") if isinstance(image, dict) else None
        if key is None or not isinstance(name, str) or not name or "\0" in name:
            faults.append(f"images[{i}] needs an id and a file_name")
        elif key in files:
            faults.append(f"images[{i}]: the id {key!r} is taken by {files[key]}")
        else:
            files[key] = name
    kept: dict[int | str, list[_Annotation]] = defaultdict(list)
    for i, annotation in enumerate(content["annotations"]):
        key, image_key = _key(annotation, "id"), _key(annotation, "image_id")
        if key is None or image_key is None:
            faults.append(f"annotations[{i}] needs an id and an image_id")
        elif image_key not in files:
            faults.append(f"annotations[{i}]: there is no image {image_key!r}")
        elif annotation.get("keypoints") is not None:
            kept[image_key].append(_annotation(str(key), annotation, names))
    return [_Image(name, _path(file.parent, name), tuple(kept[key])) for key, name in files.items()]


def _key(entry: Any, name: str) -> int | str | None:
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _path(folder: Path, name: str) -> Path | None:
    """The image file of this name; never one outside the folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    try:
        return next((p for p in (folder / name, folder / "images" / name) if p.is_file()), None)
    except OSError:  # a name that is too long
        return None


def _annotation(name: str, found: dict[str, Any], names: tuple[str, ...]) -> _Annotation:
    numbers, wanted = _numbers(found["keypoints"]), 3 * len(names)
    if numbers is None or len(numbers) != wanted:
        return _Annotation(name, None, None, f"keypoints must be {wanted} numbers x, y, v")
    marks = numbers[2::3]
    if odd := [mark for mark in marks if mark not in (0, 1, 2)]:
        return _Annotation(name, None, None, f"v of a keypoint is {odd[0]:g}, must be 0, 1 or 2")
    points: list[float] = []
    for k, mark in enumerate(marks):
        points += numbers[3 * k : 3 * k + 2] if mark else (math.nan, math.nan)
    box, corners = _numbers(found.get("bbox")), None
    if box is not None and len(box) == 4:
        corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    return _Annotation(name, tuple(points) if any(marks) else None, corners, None)


def _numbers(found: Any) -> list[float] | None:
    """A list of numbers as floats; None where it is something else."""
    if not isinstance(found, list):
        return None
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in found):
        return None
    try:
        return [float(value) for value in found]
    except OverflowError:  # a whole number that no float can hold
        return None


def _examples(file: Path, images: list[_Image]) -> Iterator[RawExample]:
    part = part_of(file)
    for image in images:
        origin = f"{file.name} {image.name}"
        if image.path is None:
            for name in [f"{image.name}-{a.name}" for a in image.annotations] or [image.name]:
                reason = "there is no such image file"
                yield RawExample(name, origin, b"", None, part, fault=reason)
            continue
        content, fault = read_image(image.path)
        if not image.annotations:
            yield RawExample(image.name, origin, content, None, "unlabelled", fault=fault)
        elif len(image.annotations) == 1:
            (only,) = image.annotations
            only = replace(only, fault=only.fault or fault)
            yield _example(image, only, content, origin, part)
        else:
            yield from _cut_out(image, content, origin, part)


def _example(
    image: _Image, annotation: _Annotation, content: bytes, origin: str, part: Part
) -> RawExample:
    return RawExample(
        f"{image.name}-{annotation.name}",
        f"{origin} annotation {annotation.name}",
        content,
        None,
        part if annotation.points or annotation.fault else "unlabelled",
        points=annotation.points,
        fault=annotation.fault,
    )


def _cut_out(image: _Image, content: bytes, origin: str, part: Part) -> Iterator[RawExample]:
    """One row for each of several annotations of an image."""
    pixels: np.ndarray | str
    try:
        pixels = decode(content)
    except ImageError as error:
        pixels = str(error)
    for annotation in image.annotations:
        yield _example(image, *_cropped(annotation, pixels), origin, part)


def _cropped(annotation: _Annotation, pixels: np.ndarray | str) -> tuple[_Annotation, bytes]:
    """The annotation and the image of its box, or the annotation with a fault."""
    fault, box, points = annotation.fault, annotation.box, annotation.points
    if fault is None and isinstance(pixels, np.ndarray):
        high, wide = pixels.shape[1:]
        crop = square(box, GROWN, wide, high) if box else None
        if crop is not None:
            moved = crop.points(points) if points else None
            return _Annotation(annotation.name, moved, box, None), crop.content(pixels)
        fault = "one of several in its image, and without a bbox inside it"
    return _Annotation(annotation.name, None, box, fault or str(pixels)), b""
