"""Small pictures and the sources that hold them, for tests of preparing data."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.images import encode

Row = dict[str, Any]
CLASSES = ("cat", "dog")


def pixels(number: int, side: int = 8) -> np.ndarray:
    """A picture of its own for each number, uint8 [side, side]."""
    return np.random.default_rng(number).integers(0, 256, (side, side), np.uint8)


def picture(number: int, side: int = 8) -> bytes:
    return encode(pixels(number, side))


def rows(per_class: int = 10, first: int = 0) -> list[Row]:
    """Labelled rows of two classes, each with a picture of its own."""
    return [
        {"image": picture(first + i), "label": CLASSES[i % 2], "example_id": f"row-{first + i:03d}"}
        for i in range(2 * per_class)
    ]


def write_parquet(path: Path, content: list[Row]) -> str:
    """A Parquet source of these rows; columns that no row has are left out."""
    names = list(dict.fromkeys(name for row in content for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({n: [row.get(n) for row in content] for n in names}), path)
    return f"parquet:{path}"


def write_folder(root: Path, per_class: int = 10) -> str:
    """Class folders with pictures 0, 1, 2, ..."""
    for i in range(2 * per_class):
        put(root / CLASSES[i % 2] / f"{i:03d}.png", picture(i))
    return f"folder:{root}"


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_idx(
    folder: Path, part: str, images: np.ndarray, labels: np.ndarray, *, packed: bool = False
) -> None:
    """``PART-images-idx3-ubyte`` and its labels as MNIST has them."""
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
        content = head + array.astype(np.uint8).tobytes()
        name = f"{part}-{kind}-ubyte"
        put(
            folder / (name + ".gz" if packed else name),
            gzip.compress(content) if packed else content,
        )


def digit_like(count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [count, 8, 8] and labels 0, 1, 0, 1, ..."""
    return np.stack([pixels(first + i) for i in range(count)]), np.arange(count) % 2
