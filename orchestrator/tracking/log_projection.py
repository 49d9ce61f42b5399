"""The events of a run as spans of this process's log: run > round > step."""

import threading
from typing import Any

from orchestrator.tracking.process_log import Carried, begin_span, end_span, tell
from orchestrator.tracking.tracker import Event

OPENS = {
    "run_started": "run",
    "sweep_started": "sweep",
    "round_started": "round",
    "step_started": "step",
}
ENDS = {
    "run_finished": "run",
    "run_interrupted": "run",
    "run_failed": "run",
    "sweep_closed": "sweep",
    "round_finished": "round",
    "step_finished": "step",
}
WHERE = ("trial", "seed", "round", "step", "kind", "address")
TOLD = ("text", "reason", "score", "state", "origin", "from_store", "work_s", "stopped")
"""Fields of an event that its line keeps; numbers of a step are in the store."""
UNTOLD = ("progress", "beat")


class LogProjection:
    """Opens and closes spans as the run goes; other events become lines."""

    def __init__(self) -> None:
        self._open: list[tuple[str, Carried]] = []
        self._thread = threading.get_ident()

    def hear(self, event: Event) -> None:
        """Take one event of this process."""
        name = event["event"]
        if name in UNTOLD:
            return
        where = {field: event[field] for field in WHERE if field in event}
        kept = {field: event[field] for field in TOLD if field in event}
        here = threading.get_ident() == self._thread
        if here and name in OPENS:
            self._begin(OPENS[name], where)
        elif here and name in ENDS:
            self._end(ENDS[name], str(event.get("error", "")), kept)
        else:
            tell(name.replace("_", " "), **where, **kept)

    def close(self) -> None:
        """Close what is still open."""
        while self._open:
            end_span(self._open.pop()[1], outcome="left")

    def _begin(self, name: str, where: dict[str, Any]) -> None:
        if name in (opened for opened, _ in self._open):  # the one before was never closed
            self._end(name, "", {"outcome": "left"})
        self._open.append((name, begin_span(name, **where)))

    def _end(self, name: str, error: str, fields: dict[str, Any]) -> None:
        """Close the span of this name, and before it those inside it that nobody closed."""
        if name not in (opened for opened, _ in self._open):
            return
        while (top := self._open.pop())[0] != name:
            end_span(top[1], error, outcome="left")
        end_span(top[1], error, **fields)
