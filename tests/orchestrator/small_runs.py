"""A run of two rounds that takes a second; what an interrupted one must share with a whole one."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from orchestrator.config import RunConfig
from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import prepare
from orchestrator.loading import build_config
from orchestrator.runs import RunRecord, load_run
from orchestrator.store.store import Store
from tests.conftest import QUICK
from tests.orchestrator.helpers import addresses, table_of
from tests.orchestrator.injected import Ended
from tests.orchestrator.processes import events

CLOCKED = {"steps_this_attempt", "loop_s", "images_per_s", "rows_per_s"}
"""Counts and metrics of a record that tell how it was played."""


@dataclass(frozen=True)
class Whole:
    """A run that nothing happened to."""

    config: RunConfig
    ended: Ended

    @property
    def operations(self) -> tuple[str, ...]:
        """Its file operations, in order."""
        return self.ended.operations

    def again(self, folder: Path, *overrides: str) -> RunConfig:
        """The same run on the same data with a store and runs of its own."""
        return small_config(Path(self.config.data), folder, *overrides)

    def at(self, operation: str) -> int:
        """The number of the first operation like this; RUN, TRAIN, LABEL, ... are addresses."""
        names = {"RUN": next(x.split("/")[1] for x in self.operations if x.startswith("sync runs"))}
        for each in self.operations:
            if "/steps/" in each:
                kind, address = each.split("/")[2:4]
                names.setdefault(kind.upper(), address)
        for name, value in names.items():
            operation = operation.replace(name, value)
        return self.operations.index(operation) + 1


def prepare_small(out: Path) -> Path:
    """A data set of real digits with 97 pool rows in two fragments."""
    spec = PrepareSpec(labelled_per_class=10, validation=300, test=1300, fragment_rows=49)
    prepare("digits", out, spec)
    return out


def small_config(data: Path, folder: Path, *overrides: str) -> RunConfig:
    """A run of two rounds below the folder that keeps a checkpoint whenever it may."""
    tree = QUICK | {
        "data": str(data),
        "store": str(folder / "store"),
        "runs": str(folder / "runs"),
    }
    settings = (
        "recipe.student={kind: small_cnn, width: 8, norm: group}",
        "recipe.training.steps={first_round: 5, base: 3}",
        "placement.checkpoint_every_s=0.000001",
        "placement.threads=1",
    )
    return build_config(tree, [*settings, *overrides])


def record_of(config: RunConfig) -> RunRecord:
    """The record of the only run."""
    (path,) = config.runs.glob("*/run.json")
    return load_run(path.parent)


def differences(config: RunConfig, whole: RunConfig) -> list[str]:
    """What a run that was interrupted has not in common with one that was not; nothing is best."""
    found = []
    ours, theirs = record_of(config), record_of(whole)
    if (ours.status, addresses(ours)) != (theirs.status, addresses(theirs)):
        found.append(f"{ours.status}, {addresses(ours)} for {theirs.status}, {addresses(theirs)}")
    told = [[(r.validation, r.test, r.accepted, r.kept) for r in x.rounds] for x in (ours, theirs)]
    if told[0] != told[1]:
        found.append(f"rounds {told[0]} for {told[1]}")
    store, other = Store(config.store), Store(whole.store)
    if list(store.steps()) != list(other.steps()):
        found.append(f"steps {list(store.steps())} for {list(other.steps())}")
    for kind, address, _ in other.steps():
        if faults := store.faults(kind, address):
            found += faults
            continue
        mine, its = store.record(kind, address), other.record(kind, address)
        if (mine.identity, mine.files) != (its.identity, its.files):
            found.append(f"{kind} {address} has other bytes")
        if _timeless(mine.counts) != _timeless(its.counts):
            found.append(f"{kind} {address} counts {mine.counts} for {its.counts}")
    found += _other_rows(config)
    if held := set(store.files.names("leases")) - set(store.leftovers()):
        found.append(f"{held} are still held")
    done = [e["address"] for e in events(config) if _is_work(e)]
    if len(done) != len(set(done)):
        found.append("a step was finished twice")
    return found


def _other_rows(config: RunConfig) -> list[str]:
    """Prediction tables that do not hold every row of the pool exactly once."""
    expected = pool_ids(Path(config.data))
    tables = [address for kind, address, _ in Store(config.store).steps() if kind == "label"]
    rows = {each: table_of(config.store, "label", each)["example_id"] for each in tables}
    return [
        f"{each} lacks or doubles rows" for each in tables if rows[each].to_pylist() != expected
    ]


def pool_ids(data: Path) -> list[str]:
    """The ids of the pool, sorted."""
    tables = [pq.read_table(path, columns=["example_id"]) for path in data.glob("pool/*.parquet")]
    return sorted(row for table in tables for row in table["example_id"].to_pylist())


def _timeless(counts: dict) -> dict:
    return {name: value for name, value in counts.items() if name not in CLOCKED}


def _is_work(event: dict) -> bool:
    return event["event"] == "step_finished" and not event["from_store"]
