"""What every source yields: raw examples, and what is known of all of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.data.dataset import Embedding
from trainables.tasks.kinds import Points

Part = Literal["train", "validation", "test", "unlabelled"]
PARTS: dict[str, Part] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "unlabelled": "unlabelled",
}
"""Parts by the names that sources give them."""
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class RawExample:
    """One example as its source gave it."""

    example_id: str
    """Stable name: it depends on the example, never on its place in the source."""
    origin: str
    """Where it was found, for messages."""
    content: bytes
    """The encoded image, or features as float16."""
    label: str | None
    """Class name, or None where the source holds no label."""
    part: Part
    """Part of the data set that the source assigns it to."""
    points: tuple[float, ...] | None = None
    """x0, y0, x1, y1, ... in pixels of the image, 0 = centre of the first one, NaN = unknown; None
    where the source holds no points."""
    group: str | None = None
    """The clip that it is of; None: it stands alone."""
    order: int = 0
    """Place in the clip."""
    fault: str | None = None
    """Why the source could not read it; such a row is refused."""


@dataclass(frozen=True)
class Source:
    """Examples and what is known of all of them."""

    name: str
    examples: Iterable[RawExample]
    classes: tuple[str, ...] | None = None
    """Names of the classes or points in their order; None takes the sorted labels of the training
    part."""
    embedding: Embedding | None = None
    """What made the features, if the examples are no images."""
    points: Points | None = None
    """What the points are, if the labels are points; None: they are classes."""


@dataclass(frozen=True)
class Found:
    """What one file, or several of one kind, add to a source of points."""

    origin: str
    """For messages."""
    examples: Iterable[RawExample]
    num_coordinates: int | None = None
    """Numbers of a row's points, 2K; None: it holds no points."""
    names: tuple[str, ...] | None = None
    """Names of the points, if it knows them."""
    images: frozenset[Path] = frozenset()
    """Image files that it accounts for."""


def read_image(path: Path) -> tuple[bytes, str | None]:
    """The content of a file, and why it can't be read."""
    try:
        return path.read_bytes(), None
    except OSError as error:
        return b"", f"the file can't be read: {error.strerror}"


def writable(text: str) -> bool:
    """Whether a text can be written as UTF-8: names of files and JSON may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
