"""Lines that Ray's native code writes to the terminal go to a file instead."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def native_noise_to(path: Path) -> Iterator[None]:
    """While the block runs, file descriptor 2 is the file; Python's stderr stays the terminal.

    Ray's C++ core writes errors straight to the descriptor, some of them about its own affairs,
    and has no setting that sends them elsewhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = sys.stderr
    before.flush()
    terminal = os.dup(2)
    with path.open("ab") as log:
        os.dup2(log.fileno(), 2)
    sys.stderr = os.fdopen(terminal, "w", buffering=1)
    moved = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is before
    ]
    for handler in moved:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        for handler in moved:
            handler.setStream(before)
        sys.stderr.close()
        sys.stderr = before
