"""The rounds of a run as a CSV file, written anew after each round."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from orchestrator.reporting import REPORTED
from orchestrator.store.files import Files
from orchestrator.tracking.tracker import Event

FILE = "rounds.csv"
OF_STEPS = (
    "rows",
    "accepted_share",
    "accepts_all",
    "mean_confidence",
    "entropy_of_mean",
    "not_finite",
    "effect_mean",
    "effect_std",
    "class_rows",
    "thresholds",
)
COLUMNS = (
    "round",
    "kept",
    "accepted",
    "precision",
    "validation_score",
    "test_score",
    "seconds",
    "reason",
    "class_rows",
    "class_precision",
    "thresholds",
    "prior",
    "starved_classes",
    *REPORTED,
    *(f"step_{name}" for name in OF_STEPS),
    "loss",
    "terms",
    "term_weights",
    "teacher_distance",
    "teacher_disagreement",
    "teacher_queue",
    "validation",
    "test",
    "alone",
    "alarms",
)
"""What holds several values is JSON."""


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
            **{name: _cell(event[name]) for name in COLUMNS if name in event},
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
    found = {name: chosen.get(name) for name in REPORTED}
    found |= {f"step_{name}": _cell(seen.get(name)) for name in OF_STEPS}
    return found | {"loss": event.get("terms", {}).get("loss")}


def _cell(value: Any) -> Any:
    """A value as it stands in a cell: lists and fields as JSON, none of them as nothing."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value) if value else None
    return value
