"""The event log of a run, and the projections that listen to it."""

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from orchestrator.store.retry import no_room
from orchestrator.tracking.secrets import redact

log = logging.getLogger(__name__)
EVENTS = "events.jsonl"
Event = Mapping[str, Any]


class Teller(Protocol):
    """Takes events of a run."""

    def emit(self, name: str, **fields: Any) -> None:
        """Take one event."""


class Projection(Protocol):
    """Shows events somewhere. It may fail; the run goes on."""

    def hear(self, event: Event) -> None:
        """Take one event, in order."""

    def close(self) -> None:
        """No further event will come."""


class Tracker:
    """Appends events to the log, then tells the projections."""

    def __init__(self, folder: Path, projections: Sequence[Projection]) -> None:
        """Open the log; a line that a crash cut short is closed, so that it can be skipped."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / EVENTS
        torn = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
        self._file = path.open("a", encoding="utf-8")
        if torn:
            self._file.write("\n")
        self._projections = list(projections)
        self._one_at_a_time = threading.RLock()

    def add(self, projection: Projection) -> None:
        """Tell one more projection from now on."""
        self._projections.append(projection)

    def emit(self, name: str, **fields: Any) -> None:
        """Append one event with the time of now; secrets are hidden. Any thread may call this.

        Raises:
            StorageFullError: There is no room; the log is the truth, so the run can't go on.
        """
        with self._one_at_a_time:
            self._emit(name, fields)

    def _emit(self, name: str, fields: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = redact({"event": name, "time": now, **fields})
        try:
            self._file.write(json.dumps(event, sort_keys=True) + "\n")
            self._file.flush()
            if name != "progress":
                os.fsync(self._file.fileno())
        except OSError as error:
            raise no_room(f"writing {self._file.name}", error) from error
        for projection in list(self._projections):
            try:
                projection.hear(event)
            except Exception as error:  # noqa: BLE001 - tracking must never end a run
                log.warning("%s stopped: %s", type(projection).__name__, redact(str(error)))
                self._projections.remove(projection)

    def close(self) -> None:
        """Close the log and the projections."""
        for projection in self._projections:
            try:
                projection.close()
            except Exception as error:  # noqa: BLE001 - tracking must never end a run
                log.warning("%s: %s", type(projection).__name__, redact(str(error)))
        with suppress(OSError):  # what could not be written was told when it was emitted
            self._file.close()


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """The events of a run in order; lines that a crash cut short are skipped."""
    path = folder / EVENTS
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event
