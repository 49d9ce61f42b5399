"""Why a pool row was accepted or left out, round by round: from the stored tables alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.shards import shard_name
from orchestrator.runs import RunRecord
from orchestrator.store.record import Record
from orchestrator.store.store import Store
from trainables.tasks.outcomes import Shown
from trainables.tasks.task import Task, task_of


@dataclass(frozen=True)
class _Choice:
    """A selection and the prediction table that it chose from."""

    when: str
    told: Record
    chosen: Record


def explain_row(record: RunRecord, example_id: str) -> list[str]:
    """What each round's sources said of a pool row and what became of it, one line each.

    A row that was left out is held against the least sure accepted one of the same name in its
    fragment. A hidden label comes last; no decision reads it.

    Raises:
        ConfigError: The run selected nothing yet, or no such row was labelled.
    """
    data, store = Dataset(record.config.data), Store(record.config.store)
    choices = list(_choices(record, store))
    if not choices:
        raise ConfigError(f"{record.run} has not selected from the pool yet")
    fragment = _fragment_of(store, choices[0].told, example_id)
    if fragment is None:
        raise ConfigError(
            f"{record.run} labelled no pool row {example_id!r}: ids stand in the column example_id "
            "of the pool's files, and rows that can't be read in refused.parquet"
        )
    task, names, lines = task_of(data.task), data.manifest.classes, []
    for each in choices:
        told = store.read_table(each.told, shard_name(fragment))
        chosen = store.read_table(each.chosen, shard_name(fragment))
        row = Shown(_of(told, example_id), _of(chosen, example_id), None)
        least = _least(task, chosen, told)
        lines += [f"{each.when}  {said}" for said in task.said(row, names, least)]
    if data.manifest.hidden.files:
        truth = _of(data.read(data.manifest.hidden.files[fragment]), example_id)
        lines += [f"hidden label, for reports alone: {task.truth_said(truth, names)}"]
    return lines


def _choices(record: RunRecord, store: Store) -> Iterator[_Choice]:
    """The selections of a run, in order."""
    for each in record.rounds:
        for name, when in (("select-before", "before round 0"), ("select", f"round {each.round}")):
            if name in each.steps:
                chosen = store.record("select", each.steps[name].address)
                told = store.record("label", chosen.identity["inputs"]["predictions"])
                yield _Choice(when, told, chosen)


def _fragment_of(store: Store, told: Record, example_id: str) -> int | None:
    """The fragment that holds a row."""
    for fragment in range(len([f for f in told.files if f.name.startswith("part-")])):
        ids = store.read_table(told, shard_name(fragment))["example_id"]
        if pc.index(ids, example_id).as_py() >= 0:
            return fragment
    return None


def _least(task: Task, chosen: pa.Table, told: pa.Table) -> np.ndarray:
    """Confidence of the least sure accepted element by name; NaN where none is accepted."""
    accepted = task.accepted(chosen, told)
    least = np.full(task.num_names, np.inf)
    np.minimum.at(least, accepted.names, accepted.confidence)
    return np.where(np.isinf(least), np.nan, least)


def _of(table: pa.Table, row: str) -> pa.Table:
    """The table's row of this id, or none."""
    return table.filter(pc.equal(table["example_id"], row))
