"""A log file that another process writes: read whole, or as it grows."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path


def text_of(path: Path) -> str:
    """What the file holds; nothing if there is none yet."""
    return path.read_text(errors="replace") if path.exists() else ""


def growth_of(path: Path, alive: Callable[[], bool], every_s: float = 0.2) -> Iterator[str]:
    """What the file holds and what comes, until its writer is gone and all of it is read."""
    given = 0
    while True:
        writes = alive()
        if path.exists():
            with path.open("rb") as log:
                log.seek(given)
                piece = log.read()
            given += len(piece)
            if piece:
                yield piece.decode(errors="replace")
        if not writes:
            return
        time.sleep(every_s)
