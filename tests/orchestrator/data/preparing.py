"""Small prepared data sets, and what stands in them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from orchestrator.data.dataset import Dataset, Manifest, PrepareSpec
from orchestrator.data.prepare import prepare

SPLITS = ("labelled", "pool", "hidden", "validation", "test")
SMALL = {"labelled_per_class": 2, "validation": 4, "test": 4}


def make(out: Path, source: str, **settings: Any) -> Manifest:
    return prepare(source, out, PrepareSpec(**SMALL | settings))


def ids(out: Path, split: str) -> list[str]:
    data = Dataset(out)
    return data.table(getattr(data.manifest, split), ["example_id"])["example_id"].to_pylist()


def labels(out: Path, split: str) -> Counter[int]:
    data = Dataset(out)
    return Counter(data.table(getattr(data.manifest, split))["label"].to_pylist())


def refused(out: Path) -> dict[str, str]:
    """Reason by origin."""
    table = pq.read_table(out / "refused.parquet")
    return dict(zip(table["origin"].to_pylist(), table["reason"].to_pylist(), strict=True))


def tables(manifest: Manifest) -> list[str]:
    return [getattr(manifest, split).digest for split in SPLITS]
