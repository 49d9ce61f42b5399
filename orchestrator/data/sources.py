"""Where examples come from: digits, torchvision, folders, Parquet and idx files.

A source yields raw examples; splitting, checking and writing are done once, in `prepare`.
"""

import gzip
import hashlib
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.dataset import Dataset, Embedding
from orchestrator.errors import ConfigError, DataError
from trainables.images import encode

Part = Literal["train", "validation", "test", "unlabelled"]
KINDS = (
    "digits",
    "torchvision:NAME",
    "folder:PATH",
    "parquet:PATH",
    "idx:PATH",
    "prepared:PATH",
)
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class RawExample:
    """One example as its source gave it."""

    example_id: str
    """Stable name: it depends on the example, never on its place in the source."""
    origin: str
    """Where it was found, for messages."""
    content: bytes
    """The encoded image, or features as float16."""
    label: str | None
    """Class name, or None where the source holds no label."""
    part: Part
    """Part of the data set that the source assigns it to."""


@dataclass(frozen=True)
class Source:
    """Examples and what is known of all of them."""

    name: str
    examples: Iterable[RawExample]
    classes: tuple[str, ...] | None = None
    """Class names in their order; None takes the sorted labels of the training part."""
    embedding: Embedding | None = None
    """What made the features, if the examples are no images."""


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
        return _parquet(Path(rest))
    if kind == "idx" and rest:
        return _idx(Path(rest))
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


def _parquet(path: Path) -> Source:
    """Parquet files with ``image`` (bytes or {bytes, path}).

    Columns ``label``, ``example_id`` and ``split`` are optional; a row without a label goes to the
    pool.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"parquet:{path}: no Parquet file there")
    for file in files:
        _check_parquet(file)

    def examples() -> Iterator[RawExample]:
        seen: Counter[str] = Counter()
        for file in files:
            fallback: Part = "test" if file.stem == "test" else "train"
            at = 0
            for batch in pq.ParquetFile(file).iter_batches(1024):
                for row in batch.to_pylist():
                    yield _parquet_row(row, f"{file.name} row {at}", fallback, seen)
                    at += 1

    return Source(path.stem, examples())


def _check_parquet(file: Path) -> None:
    try:
        columns = pq.read_schema(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file} can't be read as Parquet: {error}") from error
    if "image" not in columns.names:
        raise DataError(f"{file} has no column 'image', only {', '.join(columns.names)}")
    kind = columns.field("image").type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(f"{file}: column 'image' is {kind}, must be bytes or {{bytes, path}}")


def _parquet_row(
    row: dict[str, Any], origin: str, fallback: Part, seen: Counter[str]
) -> RawExample:
    image = row["image"]
    content = (image.get("bytes") if isinstance(image, dict) else image) or b""
    label = row.get("label")
    split = row.get("split")
    parts: dict[str, Part] = {
        "train": "train",
        "validation": "validation",
        "val": "validation",
        "valid": "validation",
        "test": "test",
        "unlabelled": "unlabelled",
    }
    if split is not None and split not in parts:
        raise DataError(f"{origin}: split {split!r} must be one of {', '.join(parts)}")
    part = parts[split] if split is not None else fallback
    part = "unlabelled" if label is None and part == "train" else part
    name = row.get("example_id")
    if name is None:  # rows that share a name and differ in its number are the same in all
        digest = hashlib.sha256(f"{part}/{label}/".encode() + content).hexdigest()[:16]
        seen[digest] += 1
        name = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    return RawExample(str(name), origin, content, None if label is None else str(label), part)


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
                yield from _rows(table, column, entry.name, table["label"].to_pylist(), part)
        known: dict[str, int] = {}
        for entry in manifest.hidden.files:
            table = data.read(entry)
            ids, labels = table["example_id"].to_pylist(), table["label"].to_pylist()
            known |= dict(zip(ids, labels, strict=True))
        for entry in manifest.pool.files:
            table = data.read(entry)
            labels = [known.get(name) for name in table["example_id"].to_pylist()]
            yield from _rows(table, column, entry.name, labels, "train")

    def _rows(
        table: pa.Table, column: str, origin: str, labels: list[int | None], part: Part
    ) -> Iterator[RawExample]:
        contents = _contents(table[column])
        names = table["example_id"].to_pylist()
        for name, content, label in zip(names, contents, labels, strict=True):
            known = None if label is None else manifest.classes[label]
            where: Part = "unlabelled" if known is None else part
            yield RawExample(name, f"{origin} {name}", content, known, where)

    return Source(manifest.name, examples(), manifest.classes, manifest.embedding)


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
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} can't be unpacked: {error}") from error
    if len(content) < 4 + 4 * dimensions or content[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is no idx file of bytes with {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    body = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if len(body) != np.prod(shape):
        raise DataError(f"{path} is cut short: {len(body)} bytes for shape {shape}")
    return body.reshape(shape)


def labels_in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names in their order: by number where all are numbers, else by name."""
    found = set(labels)
    if all(name.lstrip("-").isdigit() for name in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))
