"""A prepared data set: its manifest and how its tables are read and verified."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError, model_validator

from orchestrator.address import digest
from orchestrator.data.bounds import check_bounds
from orchestrator.data.rows import check_rows
from orchestrator.errors import ConfigError, DataError, StorageAwayError
from orchestrator.store.files import Files
from orchestrator.store.record import FileEntry
from orchestrator.store.store import entry_of
from trainables.spec import Spec
from trainables.tasks.kinds import Classes, Points, TaskSpec

MANIFEST = "dataset.json"


class PrepareSpec(Spec):
    """How a source is split."""

    labelled_per_class: Annotated[int, Field(ge=1)] | None = None
    """Labelled rows of each class; None: 10. Classes only."""
    labelled: Annotated[int, Field(ge=1)] | None = None
    """Labelled rows in all; None: 50. Points only."""
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

    def of(self, kind: Literal["classification", "landmarks"]) -> Self:
        """The same with the labelled rows that a data set of such a task has.

        Raises:
            ConfigError: It asks for labelled rows as the other task counts them.
        """
        if kind == "landmarks":
            if self.labelled_per_class is not None:
                raise ConfigError(
                    "--labelled-per-class is for classes; these rows have points: give --labelled N"
                )
            return self.model_copy(update={"labelled": self.labelled or 50})
        if self.labelled is not None:
            raise ConfigError(
                "--labelled is for points; these rows have classes: give --labelled-per-class N"
            )
        return self.model_copy(update={"labelled_per_class": self.labelled_per_class or 10})


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
    task: TaskSpec
    """What the labels are."""
    classes: tuple[str, ...]
    """Names of the classes, a label is an index into them; or of the points, in their order."""
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

    @model_validator(mode="after")
    def _a_name_for_each(self) -> Self:
        if len(self.classes) != self.task.num_names:
            raise ValueError(f"classes holds {len(self.classes)} names for {self.task.num_names}")
        return self


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
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{root} holds no {MANIFEST}: make it with 'selftrain prepare SOURCE --out {root}'"
            ) from error
        except OSError as error:
            if isinstance(error, StorageAwayError):
                raise
            raise DataError(f"{root}/{MANIFEST} can't be read: {error}") from error
        try:
            self.manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise DataError(
                f"{root}/{MANIFEST} can't be read: {error}; prepare the data again"
            ) from error

    @property
    def root(self) -> str:
        return self.files.root

    @property
    def task(self) -> Classes | Points:
        """What the labels are."""
        return self.manifest.task

    @property
    def num_classes(self) -> int:
        return len(self.manifest.classes)

    @cached_property
    def grouped(self) -> bool:
        """Whether the rows say which clip they are of, and where in it."""
        return "group" in self.read(self.manifest.labelled.files[0]).column_names

    def read(self, entry: FileEntry, columns: list[str] | None = None) -> pa.Table:
        """A fragment, verified against the manifest.

        Raises:
            DataError: The file is missing, was changed since it was prepared, is a link to
                somewhere outside the data set, or holds an id twice or a label that is no class.
        """
        local = self.files.local(entry.name)
        if local is not None and not local.resolve().is_relative_to(Path(self.root).resolve()):
            raise DataError(
                f"{self.root}/{entry.name} leads out of the data set, to {local.resolve()}: "
                "copy the file there, or prepare the data again"
            )
        try:
            content = self.files.read(entry.name)
        except FileNotFoundError as error:
            raise DataError(
                f"{self.root}/{entry.name} is missing: prepare the data again"
            ) from error
        if entry_of(entry.name, content, entry.rows) != entry:
            raise DataError(f"{self.root}/{entry.name} was changed since it was prepared")
        where = f"{self.root}/{entry.name}"
        try:
            with pq.ParquetFile(pa.BufferReader(content)) as opened:
                check_bounds(opened.metadata, opened.schema_arrow, len(content), where)
                table = opened.read(columns=columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{where} can't be read as Parquet: {error}") from error
        return check_rows(table, self.task, where)

    def table(self, split: Split, columns: list[str] | None = None) -> pa.Table:
        """A whole split."""
        whole = pa.concat_tables([self.read(entry, columns) for entry in split.files])
        return check_rows(whole, self.task, f"{self.root}, over several files,")

    @cached_property
    def labelled_rows(self) -> tuple[int, ...]:
        """Labelled rows of each class; for points, those in which each point is known."""
        labels = self.table(self.manifest.labelled, ["label"])["label"]
        if isinstance(self.task, Points):
            known = ~np.isnan(points_of(labels)).any(axis=2)
            return tuple(known.sum(axis=0).tolist())
        counts = np.bincount(labels.to_numpy().astype(np.int64), minlength=self.num_classes)
        return tuple(counts.tolist())


def points_of(column: pa.ChunkedArray) -> np.ndarray:
    """A column of points as float32 [N, K, 2], x before y; NaN where a point is unknown."""
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    width = column.type.list_size
    whole = np.concatenate([np.zeros(0, np.float32), *flat])
    return np.asarray(whole.reshape(len(column), width // 2, 2))
