"""What one file or folder of a `landmarks:PATH` source holds."""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.data.examples import RawExample


@dataclass(frozen=True)
class Found:
    """Examples of one origin, and what it says of the points."""

    origin: str
    """For messages."""
    examples: Iterable[RawExample]
    num_coordinates: int | None = None
    """Numbers of a row's points, 2K; None: it holds no points."""
    names: tuple[str, ...] | None = None
    """Names of the points, if it knows them."""
