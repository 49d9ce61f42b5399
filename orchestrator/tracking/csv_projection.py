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
    "coverage",
    "mean_confidence",
    "flip_rate",
    "step_accepted_share",
    "step_mean_confidence",
    "step_not_finite",
    "loss",
    "alarms",
)
OF_SELECTION = ("coverage", "mean_confidence", "flip_rate")
OF_STEPS = ("accepted_share", "mean_confidence", "not_finite")


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
            **_measured(event),
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


def _measured(event: Event) -> dict[str, Any]:
    """What was measured of the round's selection and of its training steps, where it was."""
    chosen, seen = event.get("selection", {}), event.get("in_step") or {}
    found = {name: chosen.get(name) for name in OF_SELECTION}
    found |= {f"step_{name}": seen.get(name) for name in OF_STEPS}
    alarms = len(event.get("alarms", ()))
    return found | {"loss": event.get("terms", {}).get("loss"), "alarms": alarms}
