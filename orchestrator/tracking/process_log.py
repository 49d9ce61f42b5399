"""Logs for machines: every process of a run writes `logs/HOST-PID.jsonl` below the run's folder.

One JSON object a line: time, level, message, host, pid, what is known of where it happened (run,
trial, round, step, kind, address), the span it belongs to and that span's parent. A span is a
piece of work with a beginning and an end: run > round > step > work in a worker. Its end is a line
with its seconds. Nothing here may end work: a log that can't be written is given up.
"""

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.tracking.secrets import redact

LOGS = "logs"
HEARD = ("orchestrator", "trainables")
"""Packages whose warnings are written too."""
spans = logging.getLogger("selftrain.spans")
spans.propagate = False  # these lines are for files, never for a terminal
spans.addHandler(logging.NullHandler())
Carried = dict[str, Any]
"""What another process needs so that its lines belong to the span that is open here."""

_where: ContextVar[Mapping[str, Any]] = ContextVar("where", default={})  # noqa: B039 - never changed
_folder: ContextVar[str] = ContextVar("folder", default="")


class JsonLines(logging.Formatter):
    """One record as one line of JSON, secrets hidden."""

    def __init__(self, whole: Mapping[str, Any]) -> None:
        """``whole`` stands in every line, those of other threads included."""
        super().__init__()
        self._whole = whole

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when,
            "level": record.levelname,
            "message": record.getMessage(),
            "host": socket.gethostname(),
            "pid": record.process,
            **self._whole,
            **_where.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(redact(line), default=str)


class _Quiet(logging.FileHandler):
    """A file that may fail: a full disk or a folder that is gone ends no work."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing."""


def begin_span(name: str, **where: Any) -> Carried:
    """Open a span inside the one that is open now; what `end_span` takes.

    ``where`` (round, step, address, ...) stands in all lines until the end.
    """
    before = _where.get()
    span = {"span": uuid.uuid4().hex[:16], "parent": before.get("span")}
    _where.set({**before, **where, **span, "name": name})
    tell(f"{name} started", event="start")
    return {"before": before, "name": name, "began": time.perf_counter(), "span": span["span"]}


def end_span(opened: Carried, error: str = "", **fields: Any) -> None:
    """Close a span: one line with its seconds, an error if there was one."""
    seconds = round(time.perf_counter() - opened["began"], 3)
    if error:
        tell(f"{opened['name']} failed", logging.ERROR, **fields, seconds=seconds, error=error)
    else:
        tell(f"{opened['name']} ended", event="end", **fields, seconds=seconds)
    _where.set(opened["before"])


@contextmanager
def span(name: str, **where: Any) -> Iterator[None]:
    """A span around a block; an exception closes it as failed and goes on."""
    opened = begin_span(name, **where)
    try:
        yield
    except BaseException as error:
        end_span(opened, f"{type(error).__name__}: {error}")
        raise
    end_span(opened)


def tell(message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line, if this process has a log."""
    spans.log(level, message, extra={"fields": fields})


def carried() -> Carried:
    """What to hand to a worker process, in plain values; empty if there is no log."""
    return {"folder": _folder.get(), "where": dict(_where.get())} if _folder.get() else {}


@contextmanager
def open_log(folder: Path, run: str) -> Iterator[None]:
    """Write this process's log below the folder of a run while the block runs."""
    with joined({"folder": str(folder.absolute()), "where": {"run": run}}):
        yield


@contextmanager
def joined(told: Carried) -> Iterator[None]:
    """Write this process's log while the block runs, as part of the span that was carried here.

    A process that can't see the run's folder, such as a worker on another machine, writes none.
    """
    handler = _handler(told)
    if handler is None:
        yield
        return
    loggers = [spans, *map(logging.getLogger, HEARD)]
    spans.setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(handler)
    folder, where = _folder.set(told["folder"]), _where.set(told["where"])
    try:
        yield
    finally:
        with suppress(ValueError):  # a generator may be closed in another context
            _where.reset(where)
            _folder.reset(folder)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def _handler(told: Carried) -> logging.Handler | None:
    folder = told.get("folder", "")
    if not folder or not Path(folder).is_dir():
        return None
    try:
        logs = Path(folder) / LOGS
        logs.mkdir(exist_ok=True)
        handler = _Quiet(logs / f"{socket.gethostname()}-{os.getpid()}.jsonl", encoding="utf-8")
    except OSError:
        return None
    whole = {name: told["where"][name] for name in ("run", "trial") if name in told["where"]}
    handler.setFormatter(JsonLines(whole))
    return handler
