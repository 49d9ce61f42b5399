"""`landmarks:PATH`: images with points, out of a Parquet file or of all files in a folder."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from orchestrator.data.examples import Source
from orchestrator.data.landmark_found import Found
from orchestrator.data.landmark_names import (
    Landmarks,
    called,
    numbered,
    read_landmarks,
)
from orchestrator.data.landmark_rows import point_rows
from orchestrator.errors import DataError


def landmarks(path: Path) -> Source:
    """All rows of a file, or of a folder's Parquet files together.

    Raises:
        DataError: There is nothing of these kinds, a file can't be read, or the files differ in
            their points.
    """
    if not path.exists():
        raise DataError(f"landmarks:{path} is not there")
    folder = path if path.is_dir() else path.parent
    given = read_landmarks(folder)
    found = list(_found(path))
    if not found:
        raise DataError(f"landmarks:{path}: no Parquet file there")
    points = _agreed(path, given, found)
    examples = chain.from_iterable(each.examples for each in found)
    name = path.name if path.is_dir() else path.stem
    return Source(name, examples, points.names, points=points.task)


def _found(path: Path) -> Iterator[Found]:
    for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        yield point_rows(file)


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
