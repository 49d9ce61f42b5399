"""A prepared data set: its manifest and how its tables are read and verified."""

from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from orchestrator.address import digest
from orchestrator.errors import DataError
from orchestrator.store.files import Files
from orchestrator.store.record import FileEntry
from orchestrator.store.store import entry_of
from trainables.spec import Spec

MANIFEST = "dataset.json"


class PrepareSpec(Spec):
    """How a source is split."""

    labelled_per_class: Annotated[int, Field(ge=1)] = 10
    """Labelled rows of each class."""
    validation: Annotated[int, Field(ge=0)] = 0
    """Validation rows in all, in the classes' own proportions, if the source has no such split."""
    test: Annotated[int, Field(ge=0)] = 0
    """Test rows in all, in the classes' own proportions, if the source has no such split."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split."""
    fragment_rows: Annotated[int, Field(ge=1)] = 4096
    """Pool rows in one fragment, the unit in which the pool is labelled."""
    most_refused_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Stop if more than this share of the rows can't be used."""
    drop_duplicates: bool = False
    """Refuse rows that are exact duplicates of a row of another split (the test split wins)."""


class Split(Spec):
    """One table of a data set, in fragments."""

    files: tuple[FileEntry, ...] = ()
    """Parquet files, in order."""

    @property
    def num_rows(self) -> int:
        return sum(entry.rows or 0 for entry in self.files)

    @property
    def digest(self) -> str:
        """What steps read as the address of the table: names, rows and content of its files."""
        return digest([entry.plain() for entry in self.files])


class Embedding(Spec):
    """The frozen network whose features stand in the place of images."""

    model: str
    """Its name as timm knows it."""
    checkpoint: str | None = None
    """SHA-256 digest of its weights' file; None: timm's published weights."""
    size: int | None = None
    """Side in pixels to which images were scaled; None: what the weights were trained on."""
    width: Annotated[int, Field(ge=1)]
    """Features of a row."""
    images: str
    """Digest of the data set of images that it read."""


class Manifest(Spec):
    """What `selftrain prepare` wrote; the last file that it writes."""

    name: str
    """Name of the source."""
    source: str
    """The source as it was given."""
    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    channels: Annotated[int, Field(ge=1, le=4)]
    """Channels of the images: 1 grey, 3 colour; 1 for features."""
    size: int | None
    """Side in pixels that all images share, or None if they differ or are not square; 1 for
    features."""
    embedding: Embedding | None = None
    """What made the rows' features; None: rows hold images."""
    prepared: PrepareSpec
    """How the source was split."""
    labelled: Split
    """Rows with ground truth to learn from."""
    pool: Split
    """Rows to pseudo-label; fragments are the unit of work."""
    hidden: Split = Split()
    """True labels of pool rows where they are known, fragment by fragment; for reports only."""
    validation: Split
    """Rows with ground truth for decisions between rounds."""
    test: Split
    """Rows with ground truth that no decision may read."""
    refused: Split = Split()
    """Rows that could not be used, with reasons."""
    duplicates: tuple[str, ...] = ()
    """Exact duplicates across splits, one line each; the first hundred."""
    num_duplicates: int = 0
    """Exact duplicates across splits in all."""


class Dataset:
    """A prepared data set below a folder or URI."""

    def __init__(self, root: str | Path) -> None:
        """Open a data set.

        Raises:
            DataError: There is no manifest, or it can't be read.
        """
        self.files = Files(root)
        try:
            content = self.files.read(MANIFEST)
        except (FileNotFoundError, OSError) as error:
            raise DataError(
                f"{root} holds no {MANIFEST}: make it with 'selftrain prepare SOURCE --out {root}'"
            ) from error
        try:
            self.manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise DataError(f"{root}/{MANIFEST} can't be read: {error}") from error

    @property
    def root(self) -> str:
        return self.files.root

    @property
    def num_classes(self) -> int:
        return len(self.manifest.classes)

    def read(self, entry: FileEntry, columns: list[str] | None = None) -> pa.Table:
        """A fragment, verified against the manifest.

        Raises:
            DataError: The file is missing or was changed since it was prepared.
        """
        try:
            content = self.files.read(entry.name)
        except FileNotFoundError as error:
            raise DataError(
                f"{self.root}/{entry.name} is missing: prepare the data again"
            ) from error
        if entry_of(entry.name, content, entry.rows) != entry:
            raise DataError(f"{self.root}/{entry.name} was changed since it was prepared")
        return pq.read_table(pa.BufferReader(content), columns=columns)

    def table(self, split: Split, columns: list[str] | None = None) -> pa.Table:
        """A whole split."""
        return pa.concat_tables([self.read(entry, columns) for entry in split.files])

    @cached_property
    def labelled_rows(self) -> tuple[int, ...]:
        """Labelled rows of each class."""
        labels = self.table(self.manifest.labelled, ["label"])["label"].to_numpy()
        counts = np.bincount(labels.astype(np.int64), minlength=self.num_classes)
        return tuple(counts.tolist())
