"""Waiting for what another process writes."""

import time
from pathlib import Path

PATIENCE_S = 120


def wait_for(folder: Path, pattern: str) -> None:
    """Wait until the folder holds such a file."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} in {folder}"
        time.sleep(0.02)  # how often the folder is looked at
