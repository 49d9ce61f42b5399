"""Where examples come from: digits, torchvision, folders, Parquet, idx and landmark files.

A source yields raw examples; splitting, checking and writing are done once, in `prepare`.
"""

import gzip
import hashlib
import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.data.dataset import Dataset, Manifest, points_of
from orchestrator.data.examples import Part, RawExample, Source
from orchestrator.data.landmarks import landmarks
from orchestrator.data.parquet_files import parquet
from orchestrator.errors import ConfigError, DataError
from trainables.images import encode
from trainables.tasks.kinds import Points

MOST_IDX_BYTES = 4 << 30
"""A small archive may claim to hold any number of bytes."""
KINDS = (
    "digits",
    "torchvision:NAME",
    "folder:PATH",
    "parquet:PATH",
    "idx:PATH",
    "landmarks:PATH",
    "prepared:PATH",
)


def open_source(text: str) -> Source:
    """The source that ``digits``, ``folder:PATH``, ... names.

    Raises:
        ConfigError: No such kind of source.
        DataError: The source is there but can't be read.
    """
    kind, _, rest = text.partition(":")
    if kind == "digits" and not rest:
        return _digits()
    if kind == "torchvision" and rest:
        return _torchvision(rest, Path("data"))
    if kind == "folder" and rest:
        return _folder(Path(rest))
    if kind == "parquet" and rest:
        return parquet(Path(rest))
    if kind == "idx" and rest:
        return _idx(Path(rest))
    if kind == "landmarks" and rest:
        return landmarks(Path(rest))
    if kind == "prepared" and rest:
        return _prepared(rest)
    near = get_close_matches(kind, [k.partition(":")[0] for k in KINDS], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"no source {text!r}; {hint}known: {', '.join(KINDS)}")


def _arrays(
    name: str, part: Part, images: np.ndarray, labels: Iterable[str | None], seen: Counter[str]
) -> Iterator[RawExample]:
    """Examples of pixel arrays, named by a hash of pixels and label; equal ones are numbered."""
    for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        whole = f"{pixels.shape}/{label}/".encode() + pixels.tobytes()
        key = hashlib.sha256(whole).hexdigest()[:16]
        seen[key] += 1
        suffix = f"-{seen[key]}" if seen[key] > 1 else ""
        yield RawExample(f"{name}-{key}{suffix}", f"{part} {i}", encode(pixels), label, part)


def _digits() -> Source:
    from sklearn.datasets import load_digits  # here: other sources do not need scikit-learn

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    examples = _arrays("digits", "train", images, map(str, bunch.target), Counter())
    return Source("digits", examples, tuple(str(i) for i in range(10)))


def _torchvision(name: str, root: Path) -> Source:
    """``torchvision:NAME`` or ``torchvision:NAME@ROOT``; downloads what is not in place."""
    from torchvision import datasets

    name, _, place = name.partition("@")
    if name not in datasets.__all__:
        known = {each.casefold(): each for each in datasets.__all__}
        near = [known[each] for each in get_close_matches(name.casefold(), known, n=3)]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"torchvision has no data set {name!r}{hint}")
    kind = getattr(datasets, name)
    root = Path(place) if place else root
    try:
        train, test = (kind(root=str(root), train=t, download=True) for t in (True, False))
    except TypeError as error:
        raise ConfigError(
            f"torchvision:{name} has no train and test split in the usual form ({error}); "
            "save it as class folders and use folder:PATH"
        ) from error
    except Exception as error:
        raise DataError(
            f"torchvision:{name} is not complete below {root} and could not be downloaded: {error}"
        ) from error

    def examples() -> Iterator[RawExample]:
        seen: Counter[str] = Counter()
        parts: tuple[tuple[Part, Any], ...] = (("train", train), ("test", test))
        for part, data in parts:
            pictures = (np.asarray(data[i][0]) for i in range(len(data)))
            labels = (str(data.classes[int(data.targets[i])]) for i in range(len(data)))
            yield from _arrays(name.lower(), part, pictures, labels, seen)  # type: ignore[arg-type]  # any iterable of arrays serves

    return Source(name, examples(), tuple(map(str, train.classes)))


def _folder(root: Path) -> Source:
    """Class folders below the root or ``train/``; and ``test/``, ``validation/``, ``unlabelled/``.

    Every file counts: one that is no image ends in the table of refused rows.
    """
    if not root.is_dir():
        raise DataError(f"folder:{root} is no folder")
    train = root / "train" if (root / "train").is_dir() else root
    apart = {"unlabelled", "test", "validation", "train"}
    classes = tuple(name for name in _folders(train) if name not in apart)
    if not classes:
        raise DataError(f"folder:{root} holds no class folders")

    def examples() -> Iterator[RawExample]:
        for name in classes:
            yield from _files(root, train / name, name, "train")
        splits: tuple[Part, ...] = ("validation", "test")
        for part in splits:
            for name in _folders(root / part):
                yield from _files(root, root / part / name, name, part)
        yield from _files(root, root / "unlabelled", None, "unlabelled")

    return Source(root.name, examples(), classes)


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder that are not hidden, sorted; none if it does not exist."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(p.name for p in found if p.is_dir() and not p.name.startswith("."))


def _files(root: Path, folder: Path, label: str | None, part: Part) -> Iterator[RawExample]:
    """Every file below a folder that is not hidden, named by its path below the root."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            name = path.relative_to(root).as_posix()
            yield RawExample(name, name, path.read_bytes(), label, part)


def _prepared(root: str) -> Source:
    """A data set that was prepared before, of images or features, to be split anew.

    Its test rows stay test rows; validation rows are drawn again if they were drawn then.
    """
    data = Dataset(root)
    manifest = data.manifest
    drawn = manifest.prepared.validation > 0
    column = "image" if manifest.embedding is None else "features"

    def examples() -> Iterator[RawExample]:
        parts: tuple[tuple[str, Part], ...] = (
            ("labelled", "train"),
            ("validation", "train" if drawn else "validation"),
            ("test", "test"),
        )
        for name, part in parts:
            for entry in getattr(manifest, name).files:
                table = data.read(entry)
                yield from _rows(table, column, entry.name, _labels(table, manifest), part)
        known: dict[str, str | tuple[float, ...]] = {}
        for entry in manifest.hidden.files:
            table = data.read(entry)
            ids, labels = table["example_id"].to_pylist(), _labels(table, manifest)
            known |= dict(zip(ids, labels, strict=True))
        for entry in manifest.pool.files:
            table = data.read(entry)
            found = [known.get(name) for name in table["example_id"].to_pylist()]
            yield from _rows(table, column, entry.name, found, "train")

    points = manifest.task if isinstance(manifest.task, Points) else None
    return Source(manifest.name, examples(), manifest.classes, manifest.embedding, points)


def _labels(table: pa.Table, manifest: Manifest) -> list[str | tuple[float, ...]]:
    """The class name or the points of each row."""
    if isinstance(manifest.task, Points):
        flat = points_of(table["label"]).reshape(len(table), -1)
        return [tuple(row) for row in flat.tolist()]
    return [manifest.classes[label] for label in table["label"].to_pylist()]


def _rows(
    table: pa.Table,
    column: str,
    origin: str,
    labels: Sequence[str | tuple[float, ...] | None],
    part: Part,
) -> Iterator[RawExample]:
    """Rows of a prepared table; those without a label are unlabelled."""
    contents, names = _contents(table[column]), table["example_id"].to_pylist()
    grouped = "group" in table.column_names
    groups = table["group"].to_pylist() if grouped else [None] * len(table)
    orders = table["order"].to_pylist() if grouped else [0] * len(table)
    for i, (name, label) in enumerate(zip(names, labels, strict=True)):
        yield RawExample(
            name,
            f"{origin} {name}",
            contents[i],
            label if isinstance(label, str) else None,
            "unlabelled" if label is None else part,
            points=label if isinstance(label, tuple) else None,
            group=groups[i],
            order=orders[i],
        )


def _contents(column: pa.ChunkedArray) -> list[bytes]:
    """Encoded images as they are, features as the bytes of float16 numbers."""
    if not pa.types.is_fixed_size_list(column.type):
        return list(column.to_pylist())
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return [row.tobytes() for row in flat.reshape(len(column), -1)]


def _idx(root: Path) -> Source:
    """MNIST-style files: ``*images-idx3-ubyte[.gz]`` beside ``*labels-idx1-ubyte[.gz]``.

    Names that begin with ``t10k`` or ``test`` are the test split.
    """
    images = sorted(root.glob("*images*idx3*")) if root.is_dir() else []
    if not images:
        raise DataError(f"idx:{root}: no file like train-images-idx3-ubyte[.gz] there")

    def examples() -> Iterator[RawExample]:
        seen: Counter[str] = Counter()
        for path in images:
            if path.suffix == ".gz" and path.with_suffix("").exists():
                continue
            beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
            if not beside.exists():
                raise DataError(f"{path.name} has no file of labels beside it ({beside.name})")
            pixels, labels = _read_idx(path, 3), _read_idx(beside, 1)
            if len(pixels) != len(labels):
                raise DataError(f"{path.name} holds {len(pixels)} images, {len(labels)} labels")
            part: Part = "test" if path.name.startswith(("t10k", "test")) else "train"
            yield from _arrays(root.name.lower(), part, pixels, map(str, labels.tolist()), seen)

    return Source(root.name, examples())


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Bytes of the shape that the file tells; no more of it is unpacked than that."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as opened:
            head = opened.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, 8, dimensions)):
                raise DataError(f"{path} is no idx file of bytes with {dimensions} dimensions")
            shape = struct.unpack(f">{dimensions}I", head[4:])
            if (wanted := math.prod(shape)) > MOST_IDX_BYTES:
                raise DataError(
                    f"{path} says it holds {wanted:,} bytes (shape {shape}), at most "
                    f"{MOST_IDX_BYTES:,} are read"
                )
            body = np.frombuffer(opened.read(wanted + 1), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be unpacked: {error}") from error
    if len(body) != wanted:
        found = "more" if len(body) > wanted else f"{len(body)}"
        what = "holds too much" if len(body) > wanted else "is cut short"
        raise DataError(f"{path} {what}: {found} bytes for shape {shape}")
    return body.reshape(shape)
