"""The rounds of a run as a CSV file, written anew after each round."""

import csv
import io
from pathlib import Path
from typing import Any

from orchestrator.store.files import Files
from orchestrator.tracking.tracker import Event

FILE = "rounds.csv"
COLUMNS = (
    "round",
    "kept",
    "accepted",
    "precision",
    "validation_score",
    "test_score",
    "seconds",
    "reason",
)


class CsvProjection:
    """One line for each round; a round that is played again replaces its line."""

    def __init__(self, folder: Path) -> None:
        self._files = Files(folder)
        self._rows: dict[int, dict[str, Any]] = {}

    def hear(self, event: Event) -> None:
        if event["event"] == "run_started":
            self._rows.clear()
        if event["event"] != "round_finished":
            return
        self._rows[event["round"]] = {
            **{name: event[name] for name in COLUMNS if name in event},
            "validation_score": event["validation"]["score"],
            "test_score": event["test"]["score"],
        }
        sink = io.StringIO()
        writer = csv.DictWriter(sink, COLUMNS)
        writer.writeheader()
        writer.writerows(self._rows[number] for number in sorted(self._rows))
        self._files.write(FILE, sink.getvalue().encode())

    def close(self) -> None:
        """Nothing is held."""
