"""`landmarks:PATH`: images with points, out of one file or of all files in a folder."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from orchestrator.data.coco import coco
from orchestrator.data.examples import IMAGE_SUFFIXES, Found, Source
from orchestrator.data.landmark_names import (
    FILE,
    MANIFEST_FILE,
    Landmarks,
    called,
    numbered,
    read_landmarks,
)
from orchestrator.data.landmark_rows import point_rows
from orchestrator.data.pts import image_files
from orchestrator.data.video import SUFFIXES as VIDEOS
from orchestrator.data.video import video
from orchestrator.errors import DataError

WANTED = "Parquet files, COCO keypoints files (.json), images with .pts files, or videos"


def landmarks(path: Path) -> Source:
    """All rows of a file, or of all files in a folder together.

    Parquet and COCO files lie in the folder itself, images with their ``.pts`` files and videos
    anywhere below it.

    Raises:
        ConfigError: There is a video and PyAV is not installed.
        DataError: There is nothing of these kinds, a file can't be read, or the files differ in
            their points.
    """
    if not path.exists():
        raise DataError(f"landmarks:{path} is not there")
    given = read_landmarks(path if path.is_dir() else path.parent)
    found = list(_in_folder(path)) if path.is_dir() else [_file(path)]
    if not found:
        raise DataError(f"landmarks:{path} holds no {WANTED}")
    points = _agreed(path, given, found)
    examples = chain.from_iterable(each.examples for each in found)
    name = path.resolve().name if path.is_dir() else path.stem
    return Source(name, examples, points.names, points=points.task)


def _file(file: Path) -> Found:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return point_rows(file)
    if suffix == ".json":
        return coco(file)
    if suffix in VIDEOS:
        return video(file)
    raise DataError(f"landmarks:{file} must be a folder, or one of these: {WANTED}")


def _in_folder(root: Path) -> Iterator[Found]:
    tables = [file for file in _of(root.iterdir()) if file.suffix.lower() in (".parquet", ".json")]
    found = [_file(file) for file in tables if file.name not in (FILE, MANIFEST_FILE)]
    yield from found
    taken = frozenset(chain.from_iterable(each.images for each in found))
    below = [
        file
        for file in _of(root.rglob("*"))
        if not any(part.startswith(".") for part in file.relative_to(root).parts)
    ]
    marked = [file for file in below if file.suffix.lower() == ".pts"]
    images = [f for f in below if f.suffix.lower() in IMAGE_SUFFIXES and f not in taken]
    if images or marked:
        yield image_files(root, images, marked)
    for file in below:
        if file.suffix.lower() in VIDEOS:
            yield video(file)


def _of(paths: Iterable[Path]) -> list[Path]:
    """The files among paths, in order."""
    return sorted(path for path in paths if path.is_file())


def _agreed(path: Path, given: Landmarks | None, found: list[Found]) -> Landmarks:
    """The points that all files have.

    Raises:
        DataError: They have other numbers of points or other names, or no points at all.
    """
    counts = {each.origin: n for each in found if (n := each.num_coordinates) is not None}
    if not counts:
        raise DataError(f"landmarks:{path} holds no rows with points")
    faults = [
        f"{origin} has {n} coordinates a row" for origin, n in counts.items() if n % 2 or not n
    ]
    if faults:
        raise DataError(f"landmarks:{path}: {'; '.join(faults)}, must be two for each point")
    named = {each.origin: each.names for each in found if each.names is not None}
    if given is not None:
        counts = {"the file of names": 2 * len(given.names)} | counts
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{n // 2} in {origin}" for origin, n in counts.items())
        raise DataError(f"landmarks:{path}: other numbers of points: {told}")
    if given is not None:
        return given
    if len(set(named.values())) > 1:
        told = "; ".join(f"{origin}: {', '.join(names)}" for origin, names in named.items())
        raise DataError(f"landmarks:{path}: points have other names: {told}")
    if named:
        return called(next(iter(named.values())))
    return numbered(next(iter(counts.values())) // 2)
