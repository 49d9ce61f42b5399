"""What each round made of a pool row: from the stored tables alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.shards import shard_name
from orchestrator.runs import RunRecord
from orchestrator.store.record import Record
from orchestrator.store.store import Store
from trainables.beliefs import Beliefs
from trainables.filters import Filter
from trainables.tasks.outcomes import row_of
from trainables.tasks.task import task_of

FILTERS: TypeAdapter[tuple[Filter, ...]] = TypeAdapter(tuple[Filter, ...])


@dataclass(frozen=True)
class _Choice:
    """A selection and the prediction table that it chose from."""

    when: str
    told: Record
    chosen: Record

    def held_back(self, row: pa.Table) -> list[str]:
        """The filters that the row does not pass."""
        filters = FILTERS.validate_python(self.chosen.identity["reads"].get("filters", ()))
        if not filters:
            return []
        beliefs = Beliefs.of_table(row)
        return [each.kind for each in filters if not each.passes(beliefs)[0]]


def explain_row(record: RunRecord, example_id: str) -> list[str]:
    """What each round's sources said of a pool row and what became of it, one line each.

    The first line names what stands between the two. A row that was left out is held against the
    least sure accepted one of what it was called in its fragment, both as the sources told them:
    calibrators may have changed either. A hidden label comes last; no decision reads it.

    Raises:
        ConfigError: The run selected nothing yet, or the pool has no such row.
    """
    data, store = Dataset(record.config.data), Store(record.config.store)
    choices = list(_choices(record, store))
    if not choices:
        raise ConfigError(f"{record.run} has not selected from the pool yet")
    fragment = _fragment_of(data, store, choices, example_id)
    if fragment is None:
        raise ConfigError(
            f"the pool of {record.run} has no row {example_id!r}: ids stand in the column "
            "example_id of its files"
        )
    task, names = task_of(data.task), data.manifest.classes
    lines = [_between(choices[-1].chosen)]
    for each in choices:
        told = store.read_table(each.told, shard_name(fragment))
        chosen = store.read_table(each.chosen, shard_name(fragment))
        if (row := row_of(told, example_id)).num_rows:
            said = task.said(example_id, told, chosen, names)
            held = each.held_back(row)
            said += [f"held back by filter {' and '.join(held)}"] if held else []
        else:
            said = ["refused: it can't be read, or a source labels it with what is not a number"]
            said += ["kept as it was accepted before"] * row_of(chosen, example_id).num_rows
        lines += [f"{each.when}  {line}" for line in said]
    if data.manifest.hidden.files:
        truth = row_of(data.read(data.manifest.hidden.files[fragment]), example_id)
        lines += [f"hidden label, for reports alone: {task.truth_said(truth, names)}"]
    return lines


def _between(chosen: Record) -> str:
    """What stands between a prediction and its acceptance."""
    reads = chosen.identity["reads"]
    parts = [
        f"{name} {', '.join(each['kind'] for each in reads[name])}"
        for name in ("filters", "calibrators")
        if reads.get(name)
    ]
    ranking = reads.get("ranking", "confidence")
    parts += [f"ranking by {ranking}"] if ranking not in ("confidence", "peak") else []
    return f"chosen by {'; '.join([*parts, 'selector ' + reads['selector']['kind']])}"


def _choices(record: RunRecord, store: Store) -> Iterator[_Choice]:
    """The selections of a run, in order."""
    for each in record.rounds:
        ended = f"round {each.round}" if each.kept else f"round {each.round} (rolled back)"
        for name, when in (("select-before", "before round 0"), ("select", ended)):
            if name in each.steps:
                chosen = store.record("select", each.steps[name].address)
                told = store.record("label", chosen.identity["inputs"]["predictions"])
                yield _Choice(when, told, chosen)


def _fragment_of(
    data: Dataset, store: Store, choices: Sequence[_Choice], example_id: str
) -> int | None:
    """The fragment of the pool that holds a row; its own files, which are large, are read last."""

    def holds(table: pa.Table) -> bool:
        return bool(pc.index(table["example_id"], example_id).as_py() >= 0)

    fragments = range(len(data.manifest.pool.files))
    for each in choices:
        for fragment in fragments:
            if holds(store.read_table(each.told, shard_name(fragment))):
                return fragment
    for fragment in fragments:
        if holds(data.read(data.manifest.pool.files[fragment], ["example_id"])):
            return fragment
    return None
