"""`selftrain prepare`: a source becomes labelled rows, a pool, validation and test, or an error."""

import hashlib
import io
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.dataset import MANIFEST, Dataset, Manifest, PrepareSpec, Split
from orchestrator.data.sources import RawExample, Source, labels_in_order, open_source
from orchestrator.errors import DataError
from orchestrator.store.record import FileEntry
from orchestrator.store.store import entry_of
from trainables import schemas
from trainables.images import ImageError, decode
from trainables.randomness import id_hash

SHOWN = 100
SPLITS = ("labelled", "validation", "test", "pool")


@dataclass(frozen=True)
class _Row:
    example: RawExample
    label: int | None
    pixels: str
    """Digest of the decoded pixels."""


@dataclass
class _Checked:
    """What the first pass over a source found."""

    rows: list[_Row] = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)


def prepare(
    source_text: str,
    out: Path,
    spec: PrepareSpec,
    told: Callable[[int], None] = lambda rows: None,
) -> Manifest:
    """Write a data set below ``out`` and return its manifest; ``told`` hears rows read so far.

    Rows that can't be used stand in the table of refused rows with the reason.

    Raises:
        DataError: Two rows share an id, a class has too few rows, a split is empty, or too many
            rows can't be used. Nothing is written then.
    """
    source = open_source(source_text)
    checked, classes = _check(source, told)
    _complain_of_rows(source_text, checked, classes, spec)
    splits = _split(checked.rows, classes, spec)
    duplicates = _duplicates(splits)
    if spec.drop_duplicates:
        splits, dropped = _without_duplicates(splits)
        checked.refused += dropped
    _complain_of_splits(splits)
    out = out.absolute()
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        tables = _write_tables(aside, splits, checked, spec, _content_field(source))
        manifest = Manifest(
            name=source.name,
            source=source_text,
            classes=classes,
            **_shape(source, checked),
            embedding=source.embedding,
            prepared=spec,
            duplicates=tuple(duplicates[:SHOWN]),
            num_duplicates=len(duplicates),
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
    manifest = Dataset(out).manifest
    same = manifest.source == source and manifest.prepared == spec
    return manifest if same else None


def _check(source: Source, told: Callable[[int], None]) -> tuple[_Checked, tuple[str, ...]]:
    """Decode every image once; find classes, refused rows and repeated ids."""
    checked = _Checked()
    origins: dict[str, str] = {}
    kept: list[tuple[RawExample, str]] = []
    for number, example in enumerate(source.examples, start=1):
        if (first := origins.get(example.example_id)) is not None:
            raise DataError(
                f"two rows have the id {example.example_id!r}: {first} and {example.origin}; "
                "ids must be unique"
            )
        origins[example.example_id] = example.origin
        try:
            pixels = _read(source, example.content)
        except ImageError as error:
            checked.refused.append((example.example_id, example.origin, str(error)))
            continue
        checked.shapes[pixels.shape] += 1
        whole = f"{pixels.shape}/".encode() + pixels.tobytes()
        kept.append((example, hashlib.sha256(whole).hexdigest()))
        if number % 500 == 0:
            told(number)
    seen = {e.label for e, _ in kept if e.part == "train" and e.label is not None}
    classes = source.classes or labels_in_order(seen)
    index = {name: i for i, name in enumerate(classes)}
    for example, digest in kept:
        reason = None
        if example.label is not None and example.label not in index:
            reason = f"unknown class {example.label!r}"
        elif example.label is None and example.part in ("validation", "test"):
            reason = f"a {example.part} row without a label"
        if reason:
            checked.refused.append((example.example_id, example.origin, reason))
            continue
        label = None if example.label is None else index[example.label]
        checked.rows.append(_Row(example, label, digest))
    return checked, classes


def _read(source: Source, content: bytes) -> np.ndarray:
    """An example's pixels uint8 [C, H, W], or its features float16 [D, 1, 1].

    Raises:
        ImageError: The bytes are no image, or hold features that are not finite.
    """
    if source.embedding is None:
        return decode(content)
    features = np.frombuffer(content, np.float16).reshape(source.embedding.width, 1, 1)
    if not np.isfinite(features).all():
        raise ImageError("features that are not finite")
    return features


def _split(rows: list[_Row], classes: tuple[str, ...], spec: PrepareSpec) -> dict[str, list[_Row]]:
    """Rows by split: the source's own parts first, then a seeded stratified draw by id."""
    splits: dict[str, list[_Row]] = {name: [] for name in SPLITS}
    by_class: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        if row.example.part in ("validation", "test"):
            splits[row.example.part].append(row)
        elif row.label is None or row.example.part == "unlabelled":
            splits["pool"].append(row)
        else:
            by_class[row.label].append(row)
    wanted = {
        name: 0 if splits[name] else int(getattr(spec, name)) for name in ("validation", "test")
    }
    counts = np.array([len(by_class[k]) for k in range(len(classes))])
    shares = {name: _quota(counts, total) for name, total in wanted.items()}
    short = []
    for label, name in enumerate(classes):
        ordered = _shuffled(by_class[label], spec.seed)
        needed = spec.labelled_per_class + sum(int(quota[label]) for quota in shares.values())
        if len(ordered) < needed:
            short.append(f"{name} has {len(ordered)}, needs {needed}")
        cuts = np.cumsum([spec.labelled_per_class, *(int(q[label]) for q in shares.values())])
        parts = (*(part.tolist() for part in np.split(np.arange(len(ordered)), cuts)),)
        for split, places in zip(("labelled", *shares, "pool"), parts, strict=True):
            splits[split] += [ordered[i] for i in places]
    if short:
        raise DataError("too few labelled rows: " + "; ".join(short))
    return {name: sorted(part, key=lambda r: r.example.example_id) for name, part in splits.items()}


def _quota(counts: np.ndarray, total: int) -> np.ndarray:
    """``total`` rows shared out in the proportion of ``counts`` (largest remainders), int64 [C]."""
    if not total or not counts.sum():
        return np.zeros(len(counts), np.int64)
    exact = total * counts / counts.sum()
    quota = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - quota), kind="stable")
    quota[order[: total - int(quota.sum())]] += 1
    return np.asarray(quota)


def _shuffled(rows: list[_Row], seed: int) -> list[_Row]:
    """Rows in an order that depends on their ids and the seed, not on their place."""
    ids = [row.example.example_id for row in rows]
    hashes = id_hash(seed, ids).tolist()
    return [rows[i] for i in sorted(range(len(rows)), key=lambda i: (hashes[i], ids[i]))]


def _duplicates(splits: dict[str, list[_Row]]) -> list[str]:
    """Exact duplicates across splits, one line each."""
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, rows in splits.items():
        for row in rows:
            places[row.pixels].append((name, row.example.example_id))
    return sorted(
        " = ".join(f"{name}:{example}" for name, example in sorted(found))
        for found in places.values()
        if len({name for name, _ in found}) > 1
    )


def _without_duplicates(
    splits: dict[str, list[_Row]],
) -> tuple[dict[str, list[_Row]], list[tuple[str, str, str]]]:
    """Splits where no image stands in two; test wins over validation, labelled, pool."""
    kept: dict[str, list[_Row]] = {}
    refused = []
    owner: dict[str, str] = {}
    for name in ("test", "validation", "labelled", "pool"):
        kept[name] = []
        for row in splits[name]:
            if owner.setdefault(row.pixels, name) == name:
                kept[name].append(row)
                continue
            reason = f"exact duplicate of a {owner[row.pixels]} row"
            refused.append((row.example.example_id, row.example.origin, reason))
    return {name: kept[name] for name in splits}, refused


def _complain_of_rows(
    source: str, checked: _Checked, classes: tuple[str, ...], spec: PrepareSpec
) -> None:
    total = len(checked.rows) + len(checked.refused)
    if not total:
        raise DataError(f"{source} holds no rows")
    if len(checked.refused) > spec.most_refused_share * total:
        shown = "; ".join(f"{origin}: {reason}" for _, origin, reason in checked.refused[:5])
        raise DataError(
            f"{len(checked.refused)} of {total} rows can't be used, more than the share "
            f"{spec.most_refused_share} allows (--most-refused-share): {shown}"
        )
    if len(classes) < 2:
        shown = f"one class only, {classes[0]!r}" if classes else "no labelled rows"
        raise DataError(f"{source} holds {shown}: at least two classes are needed")


def _complain_of_splits(splits: dict[str, list[_Row]]) -> None:
    hints = {
        "labelled": "--labelled-per-class must be at least 1",
        "pool": "no unlabelled rows are left: ask for fewer labelled, validation or test rows",
        "validation": "the source has no validation split: give --validation N",
        "test": "the source has no test split: give --test N",
    }
    if empty := [f"{name} is empty: {hints[name]}" for name in SPLITS if not splits[name]]:
        raise DataError("; ".join(empty))


def _write_tables(
    root: Path,
    splits: dict[str, list[_Row]],
    checked: _Checked,
    spec: PrepareSpec,
    content: pa.Field,
) -> dict[str, Split]:
    """All tables of the data set, by the name that the manifest gives them."""
    tables: dict[str, Split] = {}
    for name in ("labelled", "validation", "test"):
        tables[name] = Split(
            files=(_labelled_file(root, f"{name}.parquet", splits[name], content),)
        )
    pool, hidden = splits["pool"], []
    pool_files = []
    for number, start in enumerate(range(0, len(pool), spec.fragment_rows)):
        rows = pool[start : start + spec.fragment_rows]
        pool_files.append(_pool_file(root, f"pool/part-{number:05d}.parquet", rows, content))
        known = [(r.example.example_id, r.label) for r in rows if r.label is not None]
        hidden.append(_file(root, f"hidden/part-{number:05d}.parquet", _hidden_table(known)))
    if any(entry.rows for entry in hidden):
        tables["hidden"] = Split(files=tuple(hidden))
    if checked.refused:
        columns = [pa.array(c, pa.string()) for c in zip(*sorted(checked.refused), strict=True)]
        table = pa.table(columns, schema=schemas.REFUSED)
        tables["refused"] = Split(files=(_file(root, "refused.parquet", table),))
    tables["pool"] = Split(files=tuple(pool_files))
    return tables


def _content_field(source: Source) -> pa.Field:
    """What the tables hold of each row."""
    return schemas.features(source.embedding.width) if source.embedding else schemas.IMAGE


def _shape(source: Source, checked: _Checked) -> dict[str, int | None]:
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


def _labelled_file(root: Path, name: str, rows: list[_Row], content: pa.Field) -> FileEntry:
    labels = [row.label for row in rows]
    columns = [*_id_and_content(rows, content), pa.array(labels, pa.int32())]
    return _file(root, name, pa.table(columns, schema=schemas.labelled(content)))


def _pool_file(root: Path, name: str, rows: list[_Row], content: pa.Field) -> FileEntry:
    columns = _id_and_content(rows, content)
    return _file(root, name, pa.table(columns, schema=schemas.pool(content)))


def _hidden_table(known: list[tuple[str, int]]) -> pa.Table:
    ids, labels = ([k[i] for k in known] for i in (0, 1))
    return pa.table(
        [pa.array(ids, pa.string()), pa.array(labels, pa.int32())], schema=schemas.HIDDEN
    )


def _id_and_content(rows: list[_Row], content: pa.Field) -> list[pa.Array]:
    ids = pa.array([row.example.example_id for row in rows], pa.string())
    values = [row.example.content for row in rows]
    if content.name == "image":
        return [ids, pa.array(values, pa.binary())]
    flat = pa.array(np.frombuffer(b"".join(values), np.float16))
    return [ids, pa.FixedSizeListArray.from_arrays(flat, type=content.type)]


def _file(root: Path, name: str, table: pa.Table) -> FileEntry:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=1024)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sink.getvalue())
    return entry_of(name, sink.getvalue(), table.num_rows)


def _replace(out: Path, aside: Path) -> None:
    """Put the new folder in place of an older data set; anything else is left alone."""
    if out.exists():
        if not out.is_dir():
            raise DataError(f"{out} is a file: choose another folder")
        if any(out.iterdir()) and not (out / MANIFEST).is_file():
            raise DataError(f"{out} is not empty and holds no data set: choose another folder")
        shutil.rmtree(out)
    aside.rename(out)
