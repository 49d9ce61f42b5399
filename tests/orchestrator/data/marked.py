"""Pictures with points and the sources that hold them, for tests of landmark data."""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np

from orchestrator.data.examples import RawExample
from orchestrator.data.sources import open_source
from orchestrator.errors import ConfigError, DataError
from tests.orchestrator.data.pictures import picture, write_parquet

Row = dict[str, Any]
NAN = math.nan
NAMES = ("nose", "left", "right")


def points_of_row(number: int) -> list[float]:
    """Three points inside a picture of 8x8 pixels."""
    return [1.0, number % 8, 2.5, 3.0, 6.0, 3.25]


def marked_rows(count: int, first: int = 0, **more: Any) -> list[Row]:
    """Rows with three points and a picture of their own each."""
    return [
        {
            "image": picture(first + i),
            "points": points_of_row(first + i),
            "example_id": f"row-{first + i:03d}",
        }
        | more
        for i in range(count)
    ]


def clip_rows(count: int, group: str = "clip", first: int = 100) -> list[Row]:
    """Frames of a clip without points, the last one first."""
    return [
        {
            "image": picture(first + i),
            "example_id": f"{group}-{i:03d}",
            "group_id": group,
            "frame": i,
        }
        for i in reversed(range(count))
    ]


def write_rows(path: Path, content: list[Row]) -> str:
    """A landmark source of one Parquet file."""
    write_parquet(path, content)
    return f"landmarks:{path}"


def write_names(folder: Path, **changed: Any) -> Path:
    """`landmarks.json` of nose, left and right."""
    content = {"names": list(NAMES), "flip_pairs": [["left", "right"]], "normaliser": [1, 2]}
    path = folder / "landmarks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | changed))
    return path


def write_video(path: Path, frames: list[np.ndarray], codec: str = "ffv1") -> None:
    """A video of frames uint8 [H, W, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def damaged(content: bytes, seed: int) -> bytes:
    """The same with a few bytes changed, and sometimes cut short."""
    rng = np.random.default_rng(seed)
    whole = np.frombuffer(content, np.uint8).copy()
    whole[rng.integers(0, len(whole), 1 + seed % 8)] = rng.integers(0, 256, 1 + seed % 8)
    return whole.tobytes()[: rng.integers(len(whole)) if seed % 4 == 3 else None]


def examples(text: str) -> list[RawExample]:
    return list(open_source(text).examples)


def complains_or_reads(read: Callable[[], Any]) -> None:
    """Reads, or raises one of the project's own errors; any other error comes through."""
    with suppress(DataError, ConfigError):
        read()
