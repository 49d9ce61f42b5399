"""Extend: a generator, fitted on the selection's images, makes new rows for each class."""

from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.decoded import decoded_part
from orchestrator.jobs.job import ExtendJob
from orchestrator.jobs.shards import shard_name
from orchestrator.jobs.training_rows import MADE
from orchestrator.store.store import Outcome, Store
from trainables import schemas
from trainables.generators import CallableGenerator, ClassGaussian
from trainables.images import encode
from trainables.randomness import id_hash


def run_extending(job: ExtendJob) -> Outcome:
    """Make the images and write them as a table like that of the labelled rows.

    Raises:
        ConfigError: The generator can't be loaded, or returns something else than images.
    """
    shape = (job.form.channels, job.form.size, job.form.size)
    generator, rows = job.extension.generator, []
    images, labels = np.zeros((0, *shape), np.uint8), np.zeros(0, np.int64)
    if isinstance(generator, ClassGaussian):
        images, labels = _selected_images(job, generator.fit_rows)
    try:
        fitted = generator.fit(images, labels, shape)
        for label in range(job.num_classes):
            made = fitted.images(label, job.extension.per_class, job.seed)
            rows += [_row(job, label, number, pixels) for number, pixels in enumerate(made)]
    except Exception as error:  # functions of users raise whatever they like
        if not isinstance(generator, CallableGenerator):
            raise
        raise ConfigError(f"recipe.extension.generator: {generator.target}: {error}") from error
    table = pa.Table.from_pylist(rows, schema=schemas.labelled()).sort_by("example_id")
    folder = Store(job.store).folder("extend", job.address)
    counts = np.bincount(table["label"].to_numpy(), minlength=job.num_classes).tolist()
    entry = folder.write_table(MADE, schemas.conform(table, schemas.labelled(), MADE))
    return Outcome((entry,), {"rows": table.num_rows, "class_rows": counts, "read": len(labels)})


def _row(job: ExtendJob, label: int, number: int, pixels: np.ndarray) -> dict[str, Any]:
    """A row of a made image uint8 [C, H, W], with an id that no row of a data set has."""
    plain = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    name = f"made/{job.address}/{label}/{number}"
    return {"example_id": name, "image": encode(plain), "label": label}


def _selected_images(job: ExtendJob, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, C, H, W] and classes int64 [N] of about ``most`` selected rows a class."""
    store, data = Store(job.store), Dataset(job.data)
    record = store.record("select", job.selection)
    share = most / np.maximum(1, np.array(record.counts["class_rows"]))
    images, labels = [], []
    for number, entry in enumerate(data.manifest.pool.files):
        shard = store.read_table(record, shard_name(number))
        ids, classes = shard["example_id"].to_pylist(), shard["label"].to_numpy()
        drawn = id_hash(job.seed, ids) < share[classes] * 2.0**32
        wanted = {name: int(classes[i]) for i, name in enumerate(ids) if drawn[i]}

        def taken(names: list[str], wanted: dict[str, int] = wanted) -> np.ndarray:
            return np.array([name in wanted for name in names], bool)

        part = decoded_part(data, entry, job.form, taken)
        images.append(part.pixels)
        labels += [wanted[name] for name in part.example_ids]
    return np.concatenate(images), np.array(labels, np.int64)
