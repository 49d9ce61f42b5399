"""The record of a finished step: what it was asked, what it read, what it wrote, what it took."""

import importlib.metadata
import platform
from typing import Annotated, Any

from pydantic import Field

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


class FileEntry(Spec):
    """One file of a step."""

    name: str
    """Name inside the step's folder."""
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


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
