"""What the points of a source are called: `landmarks.json`, or `manifest.json` under `landmarks`.

The object holds ``names``, ``flip_pairs`` (points that change places in the mirror image) and
``normaliser`` (two points, ``box`` or a number of pixels). A point is given by its name or number.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import DataError
from trainables.tasks.kinds import Points

FILE, MANIFEST_FILE = "landmarks.json", "manifest.json"
KEYS = ("names", "flip_pairs", "normaliser")


@dataclass(frozen=True)
class Landmarks:
    """Points by name, and what is known of them."""

    names: tuple[str, ...]
    task: Points


def numbered(num_points: int) -> Landmarks:
    """Points of which only their number is known."""
    return called(tuple(f"point-{k}" for k in range(num_points)))


def called(names: tuple[str, ...]) -> Landmarks:
    """Points of which only the names are known: no pairs, distances divided by the box."""
    return Landmarks(names, Points(num_points=len(names), mirrored=tuple(range(len(names)))))


def read_landmarks(folder: Path) -> Landmarks | None:
    """What the files in a folder say of the points; None if none of them says anything.

    ``landmarks.json`` comes first; ``manifest.json`` may hold other things as well.

    Raises:
        DataError: A file can't be read, or says something wrong; every fault is named at once.
    """
    if (file := folder / FILE).is_file():
        found = read_json(file)
        strange = [key for key in found if key not in KEYS] if isinstance(found, dict) else []
        faults = [f"unknown key {key!r}, known: {', '.join(KEYS)}" for key in strange]
        return _landmarks(found, str(file), faults)
    if (file := folder / MANIFEST_FILE).is_file():
        found = read_json(file)
        if isinstance(found, dict) and "landmarks" in found:
            return _landmarks(found["landmarks"], f"{file}, landmarks", [])
    return None


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: It can't be read.
    """
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} can't be read as JSON: {error}") from error


def _landmarks(found: Any, where: str, faults: list[str]) -> Landmarks:
    if not isinstance(found, dict):
        raise DataError(f"{where}: must be an object with {', '.join(KEYS)}")
    reading = _Reading(_names(found.get("names"), faults), faults)
    mirrored = reading.mirrored(found.get("flip_pairs", []))
    normaliser = reading.normaliser(found.get("normaliser", "box"))
    if faults:
        raise DataError(f"{where}: {'; '.join(faults)}")
    task = Points(num_points=len(reading.names), mirrored=mirrored, normaliser=normaliser)
    return Landmarks(reading.names, task)


def _names(found: Any, faults: list[str]) -> tuple[str, ...]:
    if not isinstance(found, list) or not found:
        faults.append("names must be a list of the points' names")
        return ()
    if odd := [name for name in found if not isinstance(name, str) or not name.strip()]:
        faults.append(f"names must be texts, found {odd[0]!r}")
        return ()
    faults += [
        f"{name!r} stands in names {found.count(name)} times"
        for name in dict.fromkeys(found)
        if found.count(name) > 1
    ]
    return tuple(found)


@dataclass
class _Reading:
    """Points looked up by name or number; what is wrong is gathered."""

    names: tuple[str, ...]
    faults: list[str] = field(default_factory=list)

    def mirrored(self, pairs: Any) -> tuple[int, ...]:
        """Which point each one becomes in the mirror image."""
        mirrored = list(range(len(self.names)))
        if not isinstance(pairs, list):
            self.faults.append("flip_pairs must be a list of pairs of points")
            return tuple(mirrored)
        for i, given in enumerate(pairs):
            pair = self._pair(given, f"flip_pairs[{i}]")
            if pair is None:
                continue
            if taken := [self.names[k] for k in pair if mirrored[k] != k]:
                self.faults.append(f"flip_pairs[{i}]: {taken[0]!r} is in another pair already")
                continue
            one, other = pair
            mirrored[one], mirrored[other] = other, one
        return tuple(mirrored)

    def normaliser(self, given: Any) -> Any:
        """What distances are divided by."""
        if given == "box":
            return given
        if isinstance(given, int | float) and not isinstance(given, bool):
            if 0 < given < math.inf:
                return float(given)
            self.faults.append(f"normaliser is {given:g} pixels, must be more than 0")
            return "box"
        if not isinstance(given, list):
            self.faults.append(
                f"normaliser is {given!r}, must be two points, 'box' or a number of pixels"
            )
            return "box"
        return self._pair(given, "normaliser") or "box"

    def _pair(self, given: Any, where: str) -> tuple[int, int] | None:
        if not isinstance(given, list) or len(given) != 2:
            self.faults.append(f"{where} must be two points, found {given!r}")
            return None
        one, other = (self._point(each, where) for each in given)
        if one is None or other is None:
            return None
        if one == other:
            self.faults.append(f"{where}: the two points are the same, {given[0]!r}")
            return None
        return one, other

    def _point(self, given: Any, where: str) -> int | None:
        if not self.names:
            return None
        if isinstance(given, str) and given in self.names:
            return self.names.index(given)
        number = isinstance(given, int) and not isinstance(given, bool)
        if number and 0 <= given < len(self.names):
            return int(given)
        self.faults.append(
            f"{where}: there is no point {given!r}, only {len(self.names)} by name or number"
        )
        return None
