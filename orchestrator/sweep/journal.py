"""The file of a sweep's study, as a driver that was killed may have left it."""

import os
from pathlib import Path

JOURNAL = "study.journal"


def mend(journal: Path) -> None:
    """Undo what a driver that died in the middle of a write left: its lock, and half a line.

    Whoever calls this holds the sweep's lease, so that nobody writes now. Optuna itself would wait
    half a minute for the lock, and never read a journal again that goes on behind half a line.
    """
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    content = journal.read_bytes()
    if (whole := content.rfind(b"\n") + 1) < len(content):
        os.truncate(journal, whole)
