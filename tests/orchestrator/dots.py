"""Small pictures of three dots, whose places are the points to find."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.images import encode

SIDE = 32
WIDTHS = (1.0, 1.8, 3.0)
NAMES = ("small", "middle", "large")


def picture_of(points: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A picture uint8 [side, side] with a dot of another width at each point [3, 2]."""
    down, across = np.mgrid[:side, :side]
    light = np.zeros((side, side))
    for (x, y), width in zip(points, WIDTHS, strict=True):
        light = np.maximum(light, np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * width**2)))
    return np.rint(20 + 220 * light).astype(np.uint8)


def places(count: int, seed: int, side: int = SIDE) -> np.ndarray:
    """Points that wander around one another from frame to frame, float32 [count, 3, 2]."""
    rng = np.random.default_rng(seed)
    turn = rng.uniform(0, 2 * np.pi) + 0.15 * np.arange(count)
    middle = side / 2 + rng.uniform(-2, 2, 2) + 2 * np.sin(0.2 * np.arange(count))[:, None]
    found = []
    for k in range(3):
        angle = turn + 2 * np.pi * k / 3
        round_it = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        found.append(middle + 0.28 * side * round_it + rng.uniform(-0.5, 0.5, (count, 2)))
    return np.stack(found, axis=1).astype(np.float32)


def write_dots(folder: Path, per_clip: int = 30, *, clips: int = 2, stills: bool = False) -> str:
    """A Parquet source of clips of such pictures, and what its points are called."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "example_id": f"clip-{clip}-{at:03d}",
            "image": encode(picture_of(points)),
            "points": points.ravel().tolist(),
            "group_id": f"clip-{clip}",
            "frame": at,
        }
        for clip in range(clips)
        for at, points in enumerate(places(per_clip, clip))
    ]
    if stills:
        rows = [{k: v for k, v in row.items() if k not in ("group_id", "frame")} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), folder / "dots.parquet")
    (folder / "landmarks.json").write_text(json.dumps({"names": NAMES, "normaliser": float(SIDE)}))
    return f"landmarks:{folder}"
