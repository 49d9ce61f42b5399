"""Contact sheets: pool rows with what a round says of them, for people to look at."""

from typing import Literal

import numpy as np
import pyarrow.compute as pc

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.shards import shard_name
from orchestrator.runs import RunRecord
from orchestrator.store.record import Record
from orchestrator.store.store import Store
from trainables.drawing import sheet
from trainables.images import decode, encode
from trainables.tasks.outcomes import Shown, row_of
from trainables.tasks.task import task_of

Which = Literal["even", "surest", "least_sure", "refused"]


def contact_sheet(
    record: RunRecord, round_: int | None, num_rows: int, columns: int, which: Which = "even"
) -> bytes:
    """A PNG of pool rows as the selection that ends a round sees them; None: the last with one.

    ``even`` takes rows in equal distances over the pool, ``surest`` and ``least_sure`` the ends of
    the accepted rows by the teacher's confidence, ``refused`` the surest of those not accepted.

    Raises:
        ConfigError: The round has no selection, the data set holds features, or no row is left.
    """
    data, store = Dataset(record.config.data), Store(record.config.store)
    if data.manifest.embedding is not None:
        raise ConfigError(f"{record.config.data} holds features: there is nothing to look at")
    rounds = [each for each in record.rounds if "select" in each.steps]
    if round_ is not None:
        rounds = [each for each in rounds if each.round == round_]
    if not rounds:
        raise ConfigError(f"{record.run} has no selection in round {round_}: name another")
    steps = rounds[-1].steps
    source = steps.get("combine", steps["label"])
    predicted, selected = (
        store.record(kind, ref.address)
        for kind, ref in (("label", source), ("select", steps["select"]))
    )
    images = []
    for fragment, row in _picked(data, store, predicted, selected, which, num_rows):
        name = shard_name(fragment)
        table = data.read(data.manifest.pool.files[fragment], ["example_id", "image"])
        hidden = data.manifest.hidden.files
        content = row_of(table, row)["image"][0].as_py()
        shown = Shown(
            row_of(store.read_table(predicted, name), row),
            row_of(store.read_table(selected, name), row),
            row_of(data.read(hidden[fragment]), row) if hidden else None,
        )
        pixels = decode(content)
        images.append(task_of(data.task).drawn(pixels, shown, data.manifest.classes))
    if not images:
        raise ConfigError(f"round {rounds[-1].round} of {record.run} has no such rows")
    return encode(sheet(images, columns).transpose(1, 2, 0))


def _picked(
    data: Dataset, store: Store, predicted: Record, selected: Record, which: Which, num_rows: int
) -> list[tuple[int, str]]:
    """Fragments and ids of the rows to draw."""
    found: list[tuple[int, str, float, bool]] = []
    for fragment in range(len(data.manifest.pool.files)):
        name = shard_name(fragment)
        told = store.read_table(predicted, name)
        chosen = store.read_table(selected, name)["example_id"]
        accepted = pc.is_in(told["example_id"], chosen.combine_chunks()).to_pylist()
        ids, sure = told["example_id"].to_pylist(), told["confidence"].to_pylist()
        found += [(fragment, i, c, a) for i, c, a in zip(ids, sure, accepted, strict=True)]
    if which == "even":
        at = np.unique(
            np.linspace(0, len(found) - 1, min(num_rows, len(found))).round().astype(int)
        )
        return [found[i][:2] for i in at.tolist()]
    wanted = [row for row in found if row[3] == (which != "refused")]
    wanted.sort(key=lambda row: (row[2] if which == "least_sure" else -row[2], row[1]))
    return [row[:2] for row in wanted[:num_rows]]
