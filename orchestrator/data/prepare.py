"""`selftrain prepare`: a source becomes labelled rows, a pool, validation and test, or an error."""

import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from orchestrator.data.checking import Checked, Row, check
from orchestrator.data.dataset import MANIFEST, Dataset, Manifest, PrepareSpec
from orchestrator.data.examples import Source
from orchestrator.data.sources import open_source
from orchestrator.data.splitting import SPLITS, Splits, duplicates, split, without_duplicates
from orchestrator.data.tables import Columns, write_tables
from orchestrator.errors import ConfigError, DataError
from trainables import schemas
from trainables.tasks.kinds import Classes, Points

SHOWN = 100


def prepare(
    source_text: str,
    out: Path,
    spec: PrepareSpec,
    told: Callable[[int], None] = lambda rows: None,
) -> Manifest:
    """Write a data set below ``out`` and return its manifest; ``told`` hears rows read so far.

    Rows that can't be used stand in the table of refused rows with the reason.

    Raises:
        ConfigError: There is no such source, or its labelled rows are not counted so.
        DataError: Two rows share an id, a class has too few rows, a split is empty, or too many
            rows can't be used. Nothing is written then.
    """
    source = open_source(source_text)
    spec = spec.of("classification" if source.points is None else "landmarks")
    checked, names = check(source, told)
    _complain_of_rows(source_text, source, checked, names, spec)
    task = source.points or Classes(num_classes=len(names))
    splits = split(_named_groups(checked), _strata(task, names), spec)
    found = duplicates(splits)
    if spec.drop_duplicates:
        splits, dropped = without_duplicates(splits)
        checked.refused += dropped
    _complain_of_splits(splits, task)
    out = out.absolute()
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    columns = _columns(source, checked)
    try:
        tables = write_tables(aside, splits, checked.refused, spec.fragment_rows, columns)
        manifest = Manifest(
            name=source.name,
            source=source_text,
            task=task,
            classes=names,
            **_shape(source, checked),
            embedding=source.embedding,
            prepared=spec,
            duplicates=tuple(found[:SHOWN]),
            num_duplicates=len(found),
            **tables,
        )
        (aside / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        _replace(out, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def already_prepared(source: str, out: Path, spec: PrepareSpec) -> Manifest | None:
    """The manifest of ``out`` if it holds this source with these settings, else None."""
    if not (out / MANIFEST).is_file():
        return None
    try:
        manifest = Dataset(out).manifest
        same = manifest.source == source and manifest.prepared == spec.of(manifest.task.kind)
    except (ConfigError, DataError):  # made by another version, or for the other task
        return None
    return manifest if same else None


def _strata(task: Classes | Points, names: tuple[str, ...]) -> tuple[str, ...]:
    """What rows are drawn by: the classes, or all that have points together."""
    return ("the source",) if isinstance(task, Points) else names


def _named_groups(checked: Checked) -> list[Row]:
    """Rows where one that stands alone is a group of its own, if any has a group.

    Such a group is called as the row is, after as many ``=`` as keep it from all clips.
    """
    if not checked.grouped:
        return checked.rows
    groups = {row.example.group for row in checked.rows}
    alone = [row.example.example_id for row in checked.rows if row.example.group is None]
    mark = ""
    while any(mark + name in groups for name in alone):
        mark += "="

    def named(row: Row) -> Row:
        if row.example.group is not None:
            return row
        own = mark + row.example.example_id
        return replace(row, example=replace(row.example, group=own, order=0))

    return [named(row) for row in checked.rows]


def _complain_of_rows(
    text: str, source: Source, checked: Checked, names: tuple[str, ...], spec: PrepareSpec
) -> None:
    total = len(checked.rows) + len(checked.refused)
    if not total:
        raise DataError(f"{text} holds no rows")
    if len(checked.refused) > spec.most_refused_share * total:
        shown = "; ".join(f"{origin}: {reason}" for _, origin, reason in checked.refused[:5])
        raise DataError(
            f"{len(checked.refused)} of {total} rows can't be used, more than the share "
            f"{spec.most_refused_share} allows (--most-refused-share): {shown}"
        )
    if source.points is None and len(names) < 2:
        shown = f"one class only, {names[0]!r}" if names else "no labelled rows"
        raise DataError(f"{text} holds {shown}: at least two classes are needed")


def _complain_of_splits(splits: Splits, task: Classes | Points) -> None:
    option = "--labelled" if isinstance(task, Points) else "--labelled-per-class"
    hints = {
        "labelled": f"{option} must be at least 1",
        "pool": "no unlabelled rows are left: ask for fewer labelled, validation or test rows",
        "validation": "the source has no validation split: give --validation N",
        "test": "the source has no test split: give --test N",
    }
    if empty := [f"{name} is empty: {hints[name]}" for name in SPLITS if not splits[name]]:
        raise DataError("; ".join(empty))


def _columns(source: Source, checked: Checked) -> Columns:
    """What the tables hold of each row."""
    return Columns(
        schemas.features(source.embedding.width) if source.embedding else schemas.IMAGE,
        schemas.points(source.points.num_points) if source.points else schemas.CLASS,
        checked.grouped,
    )


def _shape(source: Source, checked: Checked) -> dict[str, int | None]:
    """Channels and size of images; features have neither, and say 1."""
    if source.embedding is not None:
        return {"channels": 1, "size": 1}
    channels = max(shape[0] for shape in checked.shapes)
    return {"channels": channels, "size": _common_size(checked.shapes)}


def _common_size(shapes: Iterable[tuple[int, ...]]) -> int | None:
    sizes = {shape[1:] for shape in shapes}
    if len(sizes) != 1:
        return None
    high, wide = next(iter(sizes))
    return high if high == wide else None


def _replace(out: Path, aside: Path) -> None:
    """Put the new folder in place of an older data set; anything else is left alone."""
    if out.exists():
        if not out.is_dir():
            raise DataError(f"{out} is a file: choose another folder")
        if any(out.iterdir()) and not (out / MANIFEST).is_file():
            raise DataError(f"{out} is not empty and holds no data set: choose another folder")
        shutil.rmtree(out)
    aside.rename(out)
