"""The rows that a landmark student draws from, read from the tables of a round.

Legend: N rows, K points.
"""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DataError
from orchestrator.jobs.decoded import Decoded, decode_rows, decoded_part
from orchestrator.jobs.job import PointTrainJob
from orchestrator.jobs.training_rows import Bank, selected_shards
from orchestrator.store.store import Store
from trainables.landmarks.geometry import to_form
from trainables.landmarks.rows import PointRows, PointSet
from trainables.landmarks.tables import floats_of
from trainables.randomness import id_hash


def load_point_set(job: PointTrainJob, store: Store, data: Dataset) -> PointSet:
    """The rows that this job may draw from, decoded, in the canonical order of their ids.

    Points are moved to the pixels of the network's input. Of the pool the selection is held and, if
    the loss reads it, as many rows as the steps will draw (a seeded choice by id) with the frames
    around them.
    """
    labelled = data.table(data.manifest.labelled).sort_by("example_id")
    bank, frames = Bank(), _Frames()
    own = decode_rows(labelled, job.form)
    if own.refused:
        name, reason = next(iter(own.refused.items()))
        raise DataError(f"labelled row {name!r}: {reason}; prepare the data again")
    bank.add(own.example_ids, own.pixels)
    frames.add(own)
    shards: list[pa.Table] = []
    if job.selection is not None and job.training.batch.selected:
        shards = selected_shards(store.record("select", job.selection), store)
    drawn, clips = _add_pool(bank, frames, data, job, shards)
    images = bank.images()
    chosen = pa.concat_tables(shards).sort_by("example_id").combine_chunks() if shards else None
    selected = None
    if chosen is not None and chosen.num_rows:
        ids = chosen["example_id"].to_pylist()
        points = frames.to_form(ids, floats_of(chosen, "target"))
        weights = torch.from_numpy(floats_of(chosen, "weights").copy())
        selected = PointRows(images, bank.places(ids), points, weights)
    pool, neighbours = None, None
    if job.training.reads_pool:
        names = sorted(drawn)
        pool = PointRows(images, bank.places(names))
        if job.training.two_sources is not None and clips:
            neighbours = around(names, clips, bank, job.training.two_sources.reach)
    points = frames.to_form(own.example_ids, floats_of(labelled, "label"))
    return PointSet(
        PointRows(images, bank.places(own.example_ids), points), selected, pool, neighbours
    )


class _Frames:
    """Where each row's stored image lies in the network's input."""

    def __init__(self) -> None:
        self._by_id: dict[str, np.ndarray] = {}

    def add(self, decoded: Decoded) -> None:
        self._by_id |= dict(zip(decoded.example_ids, decoded.frames_of(), strict=True))

    def to_form(self, ids: list[str], flat: np.ndarray) -> Tensor:
        """Points [N, K, 2] of stored images, given as [N, 2K], in the network's input."""
        points = torch.from_numpy(flat.reshape(len(ids), -1, 2).copy())
        frames = torch.from_numpy(np.array([self._by_id[name] for name in ids], np.float32))
        return to_form(points, frames)


Clips = dict[str, tuple[str, int]]
"""Clip and place in it, by id."""


def _add_pool(
    bank: Bank, frames: _Frames, data: Dataset, job: PointTrainJob, shards: list[pa.Table]
) -> tuple[list[str], Clips]:
    """Hold selected rows and those that steps draw; the ids of the latter, and all rows' clips."""
    pool, training = data.manifest.pool, job.training
    wanted = training.batch.pool * job.num_steps if training.reads_pool else 0
    if not shards and not wanted:
        return [], {}
    drawn: list[str] = []
    clips: Clips = {}
    grouped = data.grouped and training.two_sources is not None
    for number, entry in enumerate(pool.files):
        accepted = set(shards[number]["example_id"].to_pylist()) if shards else set()

        def by_lot(ids: list[str]) -> np.ndarray:
            if not wanted:
                return np.zeros(len(ids), bool)
            return np.asarray(id_hash(job.seed, ids) < (wanted / pool.num_rows) * 2.0**32)

        def reached(ids: list[str], accepted: set[str] = accepted) -> np.ndarray:
            whole = np.full(len(ids), grouped)  # a drawn row's neighbours are read as well
            return np.asarray(whole | by_lot(ids) | np.array([i in accepted for i in ids], bool))

        part = decoded_part(data, entry, job.form, reached)
        lot = by_lot(part.example_ids)
        drawn += [name for name, yes in zip(part.example_ids, lot.tolist(), strict=True) if yes]
        bank.add(part.example_ids, part.pixels)
        frames.add(part)
        if grouped:
            table = data.read(entry, ["example_id", "group", "order"]).to_pydict()
            rows = zip(table["example_id"], table["group"], table["order"], strict=True)
            held = set(part.example_ids)
            clips |= {name: (group, order) for name, group, order in rows if name in held}
    return drawn, clips


def around(names: list[str], clips: Clips, bank: Bank, reach: int) -> np.ndarray:
    """Rows of the bank that show the frames around each row's, int64 [N, 2 * reach]; -1: none."""
    by_place = {place: name for name, place in clips.items()}
    steps = [*range(-reach, 0), *range(1, reach + 1)]
    found = np.full((len(names), len(steps)), -1, np.int64)
    for row, name in enumerate(names):
        group, order = clips[name]
        for column, step in enumerate(steps):
            near = by_place.get((group, order + step))
            if near is not None:
                found[row, column] = bank.places([near])[0]
    return found
