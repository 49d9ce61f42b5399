"""What steps that read the whole pool share: shards of tables, and how work goes over them."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from orchestrator.store.record import FileEntry
from trainables.spec import Spec

Over = Callable[[Callable[[Sequence[int]], Any]], list[Any]]
"""Maps a function of fragment numbers over groups of fragments that together are the pool."""


class Shard(Spec):
    """What one fragment of the pool gave."""

    fragment: int = Field(ge=0)
    """Number of the pool fragment."""
    file: FileEntry
    """Its shard of the step's table."""
    class_rows: tuple[int, ...]
    """Rows, or points, by name."""


def shard_name(fragment: int) -> str:
    """Name of the shard of a fragment, in predictions and selections alike."""
    return f"part-{fragment:05d}.parquet"
