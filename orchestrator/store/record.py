"""The record of a finished step: what it was asked, what it read, what it wrote, what it took."""

import importlib.metadata
import platform
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from trainables.spec import Spec

PACKAGES = (
    "ray",
    "torch",
    "timm",
    "kornia",
    "numpy",
    "pillow",
    "pyarrow",
    "scikit-learn",
    "selftrain",
)


def inside(name: str) -> str:
    """A relative name that stays below the folder it is meant for.

    Raises:
        ValueError: It is absolute, has a step upwards, or holds what file systems read otherwise.
    """
    odd = "\\" in name or any(ord(c) < 32 for c in name)
    if odd or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError("must be a plain relative name inside the folder, without '..'")
    return name


class FileEntry(Spec):
    """One file of a step or a data set."""

    name: Annotated[str, AfterValidator(inside)]
    """Name inside the folder of the step or the data set."""
    num_bytes: Annotated[int, Field(ge=0)]
    """Size in bytes."""
    sha256: str
    """Digest of the content, 64 hexadecimal digits."""
    rows: Annotated[int, Field(ge=0)] | None = None
    """Rows, where the file is a table."""


class Record(Spec):
    """Written last: a step exists if and only if its record does."""

    address: str
    """Hash of `identity`."""
    kind: str
    """Kind of the step: train, label, select, score or audit."""
    identity: dict[str, Any]
    """Everything that the address covers, in plain values."""
    files: tuple[FileEntry, ...]
    """The step's files."""
    counts: dict[str, Any] = {}
    """What was counted: rows, accepted rows, refused rows, optimiser steps."""
    metrics: dict[str, Any] = {}
    """What was measured."""
    seconds: float
    """Wall time of the work, in seconds."""
    versions: dict[str, str] = {}
    """Versions of Python and of the packages that did the work."""
    host: str = ""
    """Machine that committed the step."""
    finished_at: str = ""
    """Time of the commit, ISO 8601, UTC."""
    check: str = ""
    """Digest of everything above, so that a damaged record is found; empty in older stores."""


@cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that decide results; read once, for that is slow."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return MappingProxyType(found)
