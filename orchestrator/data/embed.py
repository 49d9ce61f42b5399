"""`selftrain embed`: a data set of images becomes one of a frozen network's features.

Features are computed once; rounds and sweeps on them then take seconds. Every file of the data set
is one piece of work: what an earlier attempt wrote is kept.
"""

import hashlib
import io
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import nn

from orchestrator.address import digest as address_of
from orchestrator.data.dataset import MANIFEST, Dataset, Embedding, Manifest, Split
from orchestrator.engines.base import Engine
from orchestrator.errors import ConfigError, DataError, Interrupted
from orchestrator.store.files import Files
from orchestrator.store.record import FileEntry
from orchestrator.store.store import entry_of
from orchestrator.watch import Watch
from trainables import schemas
from trainables.batches import as_floats
from trainables.images import ImageError, decode
from trainables.models import pretrained_network
from trainables.spec import Spec
from trainables.tasks.kinds import Points

MADE_BY = "embedding.json"
SPLITS = ("labelled", "pool", "validation", "test")


class EmbedSpec(Spec):
    """Which frozen network makes the features."""

    model: str
    """Its name as timm knows it."""
    checkpoint: Path | None = None
    """Weights from this local file (safetensors or torch weights) instead of timm's own."""
    size: Annotated[int, Field(ge=4, le=2048)] | None = None
    """Side in pixels to which images are scaled; None: what the weights were trained on."""
    rows_per_pass: Annotated[int, Field(ge=1)] = 64
    """Images in one forward pass."""


class _EmbedJob(Spec):
    data: str
    out: str
    spec: EmbedSpec
    width: int
    device: str


def embed(
    data: Dataset,
    out: str | Path,
    spec: EmbedSpec,
    engine: Engine,
    watch: Watch,
    *,
    files_at_once: int = 1,
) -> Manifest:
    """Write a data set of features beside one of images: the same ids, splits and labels.

    ``files_at_once`` files go to the engine together: on a cluster as many as it should share out.

    Raises:
        ConfigError: timm knows no such network, or its weights don't load.
        DataError: The rows have points, ``out`` holds something else, or a row can't be decoded.
    """
    files, made_by = Files(out), _made_by(data, spec)
    if files.exists(MANIFEST):
        if (there := Dataset(out).manifest).embedding != made_by:
            raise DataError(f"{out} holds another data set: choose another folder")
        return there
    _claim(files, made_by)
    job = _EmbedJob(
        data=data.root, out=files.root, spec=spec, width=made_by.width, device=engine.device()
    )
    entries = _entries(data.manifest)
    total = sum(entry.rows or 0 for entry in entries)
    written: dict[str, FileEntry] = {}
    for at in range(0, len(entries), files_at_once):
        numbers = range(at, min(at + files_at_once, len(entries)))
        for group in engine.over(partial(_embed_files, job), numbers, watch):
            written |= {entry.name: entry for entry in group}
        watch.progress("rows", sum(entry.rows or 0 for entry in written.values()), total)
        if watch.stopping():
            raise Interrupted("stopped between two files; finished ones stay")
    for entry in chain(data.manifest.hidden.files, data.manifest.refused.files):
        files.write(entry.name, data.files.read(entry.name))
    manifest = _with_features(data.manifest, made_by, written)
    files.write(MANIFEST, f"{manifest.model_dump_json(indent=1)}\n".encode())
    files.delete(MADE_BY)
    return manifest


def _made_by(data: Dataset, spec: EmbedSpec) -> Embedding:
    """What the features depend on.

    Raises:
        ConfigError: timm knows no such network, or its weights don't load.
        DataError: The data set holds features already, or points.
    """
    if data.manifest.embedding is not None:
        raise DataError(f"{data.root} holds features already, not images")
    if isinstance(data.task, Points):
        raise DataError(f"{data.root} holds points: they need images, features have no places")
    network = _network(spec)
    with torch.inference_mode():
        width = network(torch.zeros(1, 3, 32, 32)).shape[1]
    digest = hashlib.sha256(spec.checkpoint.read_bytes()).hexdigest() if spec.checkpoint else None
    images = address_of([getattr(data.manifest, name).digest for name in SPLITS])
    return Embedding(
        model=spec.model, checkpoint=digest, size=spec.size, width=int(width), images=images
    )


def _network(spec: EmbedSpec) -> nn.Module:
    try:
        return pretrained_network(spec.model, spec.checkpoint, 0, size=spec.size)
    except Exception as error:  # readers of weights raise whatever they stumble over
        raise ConfigError(f"embed: {spec.model}: {error}") from error


def _claim(files: Files, made_by: Embedding) -> None:
    """Begin, or go on with what an earlier attempt of the same embedding began."""
    claim = f"{made_by.model_dump_json()}\n".encode()
    if files.exists(MADE_BY):
        if files.read(MADE_BY) != claim:
            raise DataError(
                f"{files.root} holds the beginning of another embedding: choose another folder"
            )
    elif files.names("", recursive=True):
        raise DataError(f"{files.root} is not empty: choose another folder")
    else:
        files.write(MADE_BY, claim)


def _entries(manifest: Manifest) -> list[FileEntry]:
    """The files with images of all splits, in order."""
    return [entry for name in SPLITS for entry in getattr(manifest, name).files]


def _with_features(
    manifest: Manifest, made_by: Embedding, written: dict[str, FileEntry]
) -> Manifest:
    splits = {
        name: Split(files=tuple(written[e.name] for e in getattr(manifest, name).files))
        for name in SPLITS
    }
    return manifest.model_copy(update={"embedding": made_by, "channels": 1, "size": 1, **splits})


def _embed_files(job: _EmbedJob, numbers: Sequence[int]) -> list[FileEntry]:
    """Write the features of these files, by number; those already there are left as they are."""
    data, files = Dataset(job.data), Files(job.out)
    every, network = _entries(data.manifest), None
    done = []
    for entry in (every[number] for number in numbers):
        if not files.exists(entry.name):
            network = network or _network(job.spec).to(job.device)
            files.write(entry.name, _embedded(data, entry, network, job))
        done.append(entry_of(entry.name, files.read(entry.name), entry.rows))
    return done


def _embedded(data: Dataset, entry: FileEntry, network: nn.Module, job: _EmbedJob) -> bytes:
    """A file of the data set with features in the place of images, as Parquet."""
    table, step = data.read(entry), job.spec.rows_per_pass
    blocks = [
        _features(table.slice(at, step), entry.name, network, job)
        for at in range(0, len(table), step)
    ]
    flat = np.concatenate(blocks or [np.zeros((0, job.width), np.float16)])
    content = schemas.features(job.width)
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), type=content.type)
    labelled = "label" in table.column_names
    schema = schemas.labelled(content) if labelled else schemas.pool(content)
    columns = {"example_id": table["example_id"], "features": column}
    found = pa.table(columns | ({"label": table["label"]} if labelled else {}))
    sink = io.BytesIO()
    pq.write_table(schemas.conform(found, schema, entry.name), sink, compression="zstd")
    return sink.getvalue()


@torch.inference_mode()
def _features(table: pa.Table, name: str, network: nn.Module, job: _EmbedJob) -> np.ndarray:
    """Features float16 [N, D] of a few images, each decoded in its own size."""
    pixels = []
    for example, content in zip(
        table["example_id"].to_pylist(), table["image"].to_pylist(), strict=True
    ):
        try:
            pixels.append(torch.from_numpy(decode(content, channels=3).copy()))
        except ImageError as error:
            raise DataError(f"{name}, row {example!r}: {error}; prepare the data again") from error
    found = [network(as_floats(block.to(job.device))) for block in _same_size(pixels)]
    return np.asarray(torch.cat(found).half().cpu().numpy())


def _same_size(pixels: list[torch.Tensor]) -> list[torch.Tensor]:
    """Images [C, H, W] in order as batches [B, C, H, W] of neighbours of one size."""
    batches: list[list[torch.Tensor]] = []
    for image in pixels:
        if batches and batches[-1][0].shape == image.shape:
            batches[-1].append(image)
        else:
            batches.append([image])
    return [torch.stack(batch) for batch in batches]
