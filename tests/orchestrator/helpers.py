"""What tests of whole runs share: play quietly, read tables back."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.data.dataset import Dataset
from orchestrator.runs import RunRecord
from orchestrator.session import play_run
from orchestrator.signals import StopRequest
from orchestrator.store.store import Store


def chaos(value: Any) -> Any:
    """A parameter whose test is left to `make chaos`."""
    return pytest.param(value, marks=[pytest.mark.slow, pytest.mark.chaos])


def play(config: RunConfig) -> RunRecord:
    """Play a run to its end without a word."""
    record, _ = play_run(config, Console(quiet=True), StopRequest())
    return record


def table_of(store: str | Path, kind: str, address: str) -> pa.Table:
    """All rows of a step's table, by id."""
    opened = Store(store)
    record = opened.record(kind, address)
    parts = [opened.read_table(record, f.name) for f in record.files if f.name.startswith("part-")]
    return pa.concat_tables(parts).sort_by("example_id").combine_chunks()


def addresses(record: RunRecord) -> list[tuple[int, str, str]]:
    """Round, name and address of every step of a run."""
    return [(r.round, name, s.address) for r in record.rounds for name, s in r.steps.items()]


def computed(record: RunRecord) -> list[tuple[int, str]]:
    """Round and name of the steps that were not found in the store."""
    return [
        (r.round, name) for r in record.rounds for name, s in r.steps.items() if not s.from_store
    ]


def split_of(record: RunRecord, name: str) -> pa.Table:
    """All rows of a split of a run's data set."""
    data = Dataset(record.config.data)
    return pa.concat_tables(data.read(entry) for entry in getattr(data.manifest, name).files)
