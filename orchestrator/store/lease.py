"""Leases: one process works on a step, the others wait and read.

A lease is a small file that its holder touches every few seconds. A waiter judges by its own clock:
a lease whose content has not changed for ``TTL_S`` seconds is dead, and so is one whose holder ran
on this machine and is no longer alive. No two clocks are ever compared.

On a local file system or NFS exactly one process gets a lease. On an object store two may write it
at the same instant: each looks again after ``SETTLE_S`` seconds, and the one that wrote last holds
it. A holder that finds its lease taken (it slept for longer than ``TTL_S``) must not commit.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from orchestrator.errors import BusyError, Interrupted
from orchestrator.store.files import Files

log = logging.getLogger(__name__)
TTL_S = 30.0
BEAT_S = 3.0
POLL_S = 0.2
SETTLE_S = 1.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file says."""

    host: str
    """Machine of the process."""
    pid: int
    """Process id on that machine."""
    since: float | None
    """When it took the lease, UNIX seconds by that machine's clock; None if not known."""
    alive: bool | None
    """Whether it lives; None if it runs on another machine."""


class Lease:
    """Held while the block runs; renewed by a thread of its own."""

    def __init__(  # noqa: PLR0913 - all but two are named and have a default
        self,
        files: Files,
        name: str,
        *,
        what: str,
        wait: bool = True,
        done: Callable[[], bool] = lambda: False,
        told: Callable[[str], None] = log.info,
        stopping: Callable[[], bool] = lambda: False,
        ttl_s: float = TTL_S,
    ) -> None:
        """Prepare to hold the lease file ``name``.

        ``done`` ends the waiting without the lease (the other process finished the work); ``told``
        hears once who is waited for; ``stopping`` ends the waiting with Interrupted.
        """
        self._stopping = stopping
        self._files, self._name, self._what = files, name, what
        self._wait, self._done, self._told, self._ttl_s = wait, done, told, ttl_s
        self._token = uuid.uuid4().hex
        self._beats = 0
        self._since = time.time()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.held = False

    def __enter__(self) -> "Lease":
        seen: bytes | None = None
        seen_at = time.monotonic()
        announced = False
        while not self._done():
            self._since = time.time()
            if self._files.create(self._name, self._content()) and self._is_settled():
                self._hold()
                return self
            current = self._current()
            if current is None:
                continue
            if current != seen:
                seen, seen_at = current, time.monotonic()
            holder = holder_of(current)
            if is_dead(holder) or time.monotonic() - seen_at > self._ttl_s:
                self._take_over(holder)
                continue
            if not self._wait:
                raise BusyError(f"{self._what} is being worked on by {_who(holder)}")
            if not announced:
                self._told(f"{self._what} is being worked on by {_who(holder)}; waiting for it")
                announced = True
            if self._stopping():
                raise Interrupted(f"stopped while waiting for {self._what}")
            time.sleep(POLL_S)
        return self

    def ours(self) -> bool:
        """Whether this process still holds the lease, as the file says now."""
        current = self._current()
        return current is not None and holder_of(current).get("token") == self._token

    def _is_settled(self) -> bool:
        """Whether the lease just written is still ours once others' writes are visible."""
        if self._files.is_local:
            return True  # creation was atomic
        time.sleep(SETTLE_S)
        return self.ours()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.held:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.ours():
            self._files.delete(self._name)
        self.held = False

    def _hold(self) -> None:
        self.held = True
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(min(BEAT_S, self._ttl_s / 4)):
            try:
                current = self._current()
                if current is not None and holder_of(current).get("token") != self._token:
                    who = _who(holder_of(current))
                    log.warning("%s: the lease was taken over by %s", self._what, who)
                    return
                self._beats += 1
                self._files.write(self._name, self._content())
            except OSError as error:  # storage that fails for a moment must not lose the lease
                log.warning("%s: the lease could not be renewed: %s", self._what, error)

    def _take_over(self, holder: dict[str, Any]) -> None:
        """Remove a dead lease; of several waiters only one succeeds in moving it away.

        A waiter that judged an older lease may move that one's successor: it is put back.
        """
        aside = f"{self._name}.dead-{self._token}"
        if not self._files.move(self._name, aside):
            return
        moved = self._files.read(aside)
        if holder_of(moved).get("token") == holder.get("token"):
            log.info("%s: took over from %s", self._what, _who(holder))
        else:
            self._files.create(self._name, moved)
        self._files.delete(aside)

    def _current(self) -> bytes | None:
        try:
            return self._files.read(self._name)
        except FileNotFoundError:
            return None

    def _content(self) -> bytes:
        return json.dumps(
            {
                "token": self._token,
                "host": socket.gethostname(),
                "boot": _boot(),
                "pid": os.getpid(),
                "started": psutil.Process().create_time(),
                "since": round(self._since, 3),
                "beats": self._beats,
            }
        ).encode()


def holder_of(content: bytes) -> dict[str, Any]:
    """Who wrote a lease; empty if it can't be read."""
    try:
        parsed = json.loads(content)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def look_at(files: Files, name: str) -> Holder | None:
    """Who holds a lease; None if nobody does or the file can't be read."""
    try:
        found = holder_of(files.read(name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if "pid" not in found or "host" not in found:
        return None
    near = found["host"] == socket.gethostname() and found.get("boot") == _boot()
    since = found.get("since")
    return Holder(
        host=str(found["host"]),
        pid=int(found["pid"]),
        since=None if since is None else float(since),
        alive=not is_dead(found) if near else None,
    )


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown machine')}"


def is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and no longer does."""
    if holder.get("host") != socket.gethostname() or holder.get("boot") != _boot():
        return False
    try:
        process = psutil.Process(int(holder["pid"]))
        same = abs(process.create_time() - float(holder["started"])) < 1
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True
    except psutil.Error:  # it is there and may not be looked at
        return False


def _boot() -> str:
    """What tells this boot, and this container's process table, from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return str(psutil.boot_time())
