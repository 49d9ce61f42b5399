"""Reads the offline files of Weights & Biases, without W&B's own reader."""

import json
import struct
from pathlib import Path

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER, PREAMBLE = 32 * 1024, 7, 7


def offline_files(folder: Path) -> list[Path]:
    """The files of all offline runs below a folder, by name."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def records(path: Path) -> list:
    """The records of an offline run.

    The file is a LevelDB log: a preamble, then blocks of 32 KiB of fragments with a header of
    checksum (4), length (2) and type (1: whole, 2: first, 3: middle, 4: last).
    """
    content, at, found, parts = path.read_bytes(), PREAMBLE, [], b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        if kind == 0:
            break
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def history(path: Path) -> list[dict]:
    """The logged rows of a run."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append(
                {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in items}
            )
    return rows


def header(path: Path):
    """What the run was opened with: its id, group, job type and config."""
    (found,) = [r.run for r in records(path) if r.WhichOneof("record_type") == "run"]
    return found
