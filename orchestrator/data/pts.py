"""Image files in a folder, with points where a 300-W `.pts` file of the same name lies beside."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.data.crops import box_of, square
from orchestrator.data.examples import PARTS, Found, Part, RawExample, read_image
from orchestrator.errors import DataError
from trainables.images import ImageError, decode

GROWN = 1.25
"""By how much the box around the points grows before it is cut out."""


@dataclass(frozen=True)
class _Read:
    """A file of points: what it holds, or what is wrong with it."""

    points: tuple[float, ...] = ()
    fault: str | None = None


def image_files(root: Path, images: Iterable[Path], marked: Iterable[Path]) -> Found:
    """Rows of image files below ``root``, with the points of the ``.pts`` files ``marked``.

    Folders ``train``, ``validation``, ``test`` and ``unlabelled`` in ``root`` are these parts. An
    image is cut down to the square around its points; one without points is unlabelled.

    Raises:
        DataError: None of the files of points can be read.
    """
    read = {path.with_suffix(""): (path, _read(path)) for path in marked}
    sizes = Counter(len(each.points) for _, each in read.values() if each.fault is None)
    if read and not sizes:
        path, first = next(iter(read.values()))
        raise DataError(f"no .pts file can be read, the first is {path}: {first.fault}")
    count = sizes.most_common(1)[0][0] if sizes else None
    return Found("files", _examples(root, list(images), read), count)


def _read(path: Path) -> _Read:
    try:
        return _Read(pts_points(path.read_text(encoding="utf-8", errors="replace")))
    except (OSError, ValueError) as error:
        return _Read(fault=f"{path.name}: {error}")


def pts_points(text: str) -> tuple[float, ...]:
    """Points x0, y0, x1, ... of a ``.pts`` file, from 1-based to 0 = centre of the first pixel.

    Raises:
        ValueError: It has another form; the message says where.
    """
    head, opened, rest = text.partition("{")
    body, closed, after = rest.partition("}")
    if not opened or not closed:
        raise ValueError("the points must stand between { and }")
    if after.strip():
        raise ValueError(f"there is something behind the }}: {after.strip()[:20]!r}")
    count = _count(head)
    points: list[float] = []
    for number, line in enumerate(body.splitlines(), start=head.count("\n") + 1):
        if not line.strip():
            continue
        try:
            x, y = map(float, line.split())
        except ValueError as error:
            raise ValueError(f"line {number}: {line.strip()[:40]!r}, must be x y") from error
        points += (x - 1, y - 1)
    if len(points) != 2 * count:
        raise ValueError(f"n_points is {count}, but there are {len(points) // 2} points")
    return tuple(points)


def _count(head: str) -> int:
    """The number of points that the lines before the points give."""
    values = {}
    for line in filter(str.strip, head.splitlines()):
        key, _, value = line.partition(":")
        values[key.strip().casefold()] = value.strip()
    if (version := values.get("version", "1")) not in ("1", "1.0"):
        raise ValueError(f"version is {version!r}, must be 1")
    count = values.get("n_points", "")
    if not (count.isascii() and count.isdigit() and len(count) < 7 and int(count)):
        raise ValueError(f"n_points is {count!r}, must be a number of at least 1")
    return int(count)


def _examples(
    root: Path, images: list[Path], read: dict[Path, tuple[Path, _Read]]
) -> Iterator[RawExample]:
    for image in images:
        _, points = read.get(image.with_suffix(""), (None, None))
        yield _example(root, image, points)
    beside = {image.with_suffix("") for image in images}
    for stem, (path, _) in read.items():
        if stem not in beside:
            name = path.relative_to(root).as_posix()
            fault = "there is no image of the same name beside it"
            yield RawExample(name, name, b"", None, _part(root, path), fault=fault)


def _example(root: Path, image: Path, read: _Read | None) -> RawExample:
    name, part = image.relative_to(root).as_posix(), _part(root, image)
    content, fault = read_image(image)
    if read is None:
        part = "unlabelled" if part == "train" else part
        return RawExample(name, name, content, None, part, fault=fault)
    points, fault = read.points, fault or read.fault
    if fault is None:
        content, points, fault = _cropped(content, points)
    return RawExample(name, name, content, None, part, points=points, fault=fault)


def _cropped(
    content: bytes, points: tuple[float, ...]
) -> tuple[bytes, tuple[float, ...], str | None]:
    """The image around its points, the points in it, and why the image can't be used."""
    try:
        pixels = decode(content)
    except ImageError as error:
        return content, points, str(error)
    high, wide = pixels.shape[1:]
    box = box_of(points)
    crop = square(box, GROWN, wide, high) if box is not None else None
    if crop is None or (crop.right - crop.left, crop.bottom - crop.top) == (wide, high):
        return content, points, None
    return crop.content(pixels), crop.points(points), None


def _part(root: Path, path: Path) -> Part:
    first, *deeper = path.relative_to(root).parts
    return PARTS.get(first, "train") if deeper else "train"
