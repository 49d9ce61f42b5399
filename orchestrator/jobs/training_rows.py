"""The rows that a classification student draws from, read from the tables of a round."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DataError
from orchestrator.jobs.decoded import decode_rows, decoded_part
from orchestrator.jobs.job import TrainJob
from orchestrator.store.record import Record
from orchestrator.store.store import Store
from trainables.batches import Source, TrainingSet, repeat_rare
from trainables.randomness import id_hash

MADE = "images.parquet"
OUT_OF_FOLD = "out_of_fold.parquet"


def load_training_set(job: TrainJob, store: Store, data: Dataset) -> TrainingSet:
    """The rows that this job may draw from, decoded, in the canonical order of their ids.

    Only rows that a batch can reach are held: all labelled ones, the selection, and of the pool at
    most as many as the steps will draw (a seeded choice by id).
    """
    labelled = data.table(data.manifest.labelled).sort_by("example_id")
    if job.fold is not None:
        fold = fold_of(labelled["example_id"].to_pylist(), job.fold.of)
        labelled = labelled.filter(pa.array(fold != job.fold.number))
    labelled = _known(labelled, job)
    bank = Bank()
    own = decode_rows(labelled, job.form)
    if own.refused:
        name, reason = next(iter(own.refused.items()))
        raise DataError(f"labelled row {name!r}: {reason}; prepare the data again")
    bank.add(own.example_ids, own.pixels)
    plan = job.training.batch
    shards: list[pa.Table] | None = None
    if job.selection is not None and plan.selected:
        shards = selected_shards(store.record("select", job.selection), store)
        shards = [_known(shard, job) for shard in shards]
        shards = shards if any(shard.num_rows for shard in shards) else None
    made = _made_rows(job, store) if job.extension is not None and shards is not None else None
    if made is not None:
        extra = decode_rows(made, job.form)
        bank.add(extra.example_ids, extra.pixels)
    wanted = plan.pool * job.num_steps if job.training.reads_pool else 0
    drawn = _add_pool(bank, data, job, shards, wanted)
    images = bank.images()
    labels = torch.from_numpy(labelled["label"].to_numpy().astype(np.int64))
    return TrainingSet(
        Source(images, bank.places(own.example_ids), labels),
        _selected_source(bank, images, shards, made, job) if shards else None,
        Source(images, bank.places(sorted(drawn))) if wanted else None,
        _told_out_of_fold(job, store, own.example_ids),
    )


def _known(table: pa.Table, job: TrainJob) -> pa.Table:
    """The rows of the classes that the student is to know.

    Raises:
        DataError: A specialist is left without labelled rows.
    """
    if not job.classes:
        return table
    found = table.filter(pc.is_in(table["label"], pa.array(job.classes, pa.int32())))
    if job.form.column in table.column_names and not found.num_rows:
        raise DataError(
            f"no labelled row of the classes {list(job.classes)} for a specialist: label some, or "
            "lower recipe.labelling.specialists"
        )
    return found


def _told_out_of_fold(job: TrainJob, store: Store, example_ids: list[str]) -> torch.Tensor | None:
    """Classes int64 [N] that out-of-fold students gave labelled rows, if the loss reads them."""
    if job.out_of_fold is None:
        return None
    table = store.read_table(store.record("cross_label", job.out_of_fold), OUT_OF_FOLD)
    told = dict(zip(table["example_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    return torch.tensor([told[name] for name in example_ids], dtype=torch.int64)


def fold_of(example_ids: list[str], folds: int) -> np.ndarray:
    """The fold that each labelled row belongs to, int64 [N]: by the hash of its id, in turn."""
    order = np.lexsort((np.array(example_ids), id_hash(0, example_ids)))
    fold = np.empty(len(example_ids), np.int64)
    fold[order] = np.arange(len(example_ids)) % folds
    return fold


def selected_shards(record: Record, store: Store) -> list[pa.Table]:
    """The selection's shards, aligned with the fragments of the pool."""
    return [store.read_table(record, f.name) for f in record.files if f.name.startswith("part-")]


def _made_rows(job: TrainJob, store: Store) -> pa.Table:
    """The images that a generator made, as rows like those of the labelled set."""
    assert job.extension is not None  # noqa: S101 - the caller checked
    return store.read_table(store.record("extend", job.extension), MADE)


def _as_selected(made: pa.Table, schema: pa.Schema, num_classes: int) -> pa.Table:
    """Made images as rows of a selection of this schema, each of weight 1."""
    labels, kind = made["label"].combine_chunks(), schema.field("target").type
    target = labels
    if pa.types.is_fixed_size_list(kind):
        hot = np.eye(num_classes, dtype=np.float32)[labels.to_numpy()]
        target = pa.FixedSizeListArray.from_arrays(pa.array(hot.ravel()), type=kind)
    ids, ones = made["example_id"].combine_chunks(), np.ones(made.num_rows, np.float32)
    return pa.table([ids, labels, target, pa.array(ones)], schema=schema)


def _selected_source(
    bank: "Bank",
    images: torch.Tensor,
    shards: list[pa.Table],
    made: pa.Table | None,
    job: TrainJob,
) -> Source:
    chosen = pa.concat_tables(shards)
    if made is not None:
        more = _as_selected(made, chosen.schema, job.num_classes)
        chosen = pa.concat_tables([chosen, more])
    chosen = chosen.sort_by("example_id").combine_chunks()
    places = bank.places(chosen["example_id"].to_pylist())
    target = chosen["target"].combine_chunks()
    if pa.types.is_fixed_size_list(target.type):
        flat = target.flatten().to_numpy(zero_copy_only=False)
        targets = torch.from_numpy(flat.reshape(-1, job.num_classes).copy())
    else:
        targets = torch.from_numpy(target.to_numpy().astype(np.int64))
    weights = torch.from_numpy(chosen["weight"].to_numpy().astype(np.float32))
    most = job.training.batch.max_copies
    if most == 1:
        return Source(images, places, targets, weights)
    copies = repeat_rare(chosen["label"].to_numpy(), job.num_classes, most, job.seed)
    at = torch.from_numpy(copies)
    return Source(images, places[copies], targets[at], weights[at])


def _add_pool(
    bank: "Bank", data: Dataset, job: TrainJob, shards: list[pa.Table] | None, wanted: int
) -> list[str]:
    """Hold the selected rows and, if the loss reads the pool, ``wanted`` of its rows or all."""
    if shards is None and not wanted:
        return []
    pool = data.manifest.pool
    drawn: list[str] = []

    def by_lot(ids: list[str]) -> np.ndarray:
        if not wanted:
            return np.zeros(len(ids), bool)
        return np.asarray(id_hash(job.seed, ids) < (wanted / pool.num_rows) * 2.0**32)

    for number, entry in enumerate(pool.files):
        accepted = set(shards[number]["example_id"].to_pylist()) if shards is not None else set()

        def reached(ids: list[str], accepted: set[str] = accepted) -> np.ndarray:
            return np.asarray(by_lot(ids) | np.array([name in accepted for name in ids], bool))

        part = decoded_part(data, entry, job.form, reached)
        lot = by_lot(part.example_ids)
        drawn += [name for name, yes in zip(part.example_ids, lot.tolist(), strict=True) if yes]
        bank.add(part.example_ids, part.pixels)
    return drawn


class Bank:
    """Decoded images or features of one form, found by id."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._blocks: list[np.ndarray] = []

    def add(self, ids: list[str], pixels: np.ndarray) -> None:
        """Hold rows: their ids and images uint8 [N, C, H, W] or features float16 [N, D, 1, 1]."""
        first = len(self._place)
        self._place.update({name: first + i for i, name in enumerate(ids)})
        self._blocks.append(pixels)

    def places(self, ids: list[str]) -> np.ndarray:
        """Places of rows, int64 [N]."""
        return np.array([self._place[name] for name in ids], dtype=np.int64)

    def images(self) -> torch.Tensor:
        """All images uint8 [M, C, H, W], or features float16 [M, D, 1, 1]."""
        return torch.from_numpy(np.concatenate(self._blocks))
