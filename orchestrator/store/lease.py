"""Leases: one process works on a step, the others wait and read.

A lease is a small file that its holder touches every few seconds. A waiter judges by its own clock:
a lease whose content has not changed for ``TTL_S`` seconds is dead, and so is one whose holder ran
on this machine and is no longer alive. No two clocks are ever compared.

Exactly one process gets a lease, on a local file system, on NFS and on an object store: `Files`
creates and discards it so. A holder that finds its lease taken (it slept for longer than ``TTL_S``)
must not commit. Time in which the storage could not be read does not count against a holder, which
could not renew its lease then either.
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
SOON_S = 0.02
AWAY_S = 5.0
"""Looking at a lease takes longer only where storage is away, and then it can't be renewed."""


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
            began = time.monotonic()
            self._since = time.time()
            if self._files.create(self._name, self._content()):
                self._hold()
                return self
            current = self._files.read_or_none(self._name)
            if current is None:
                time.sleep(SOON_S)
                continue
            now = time.monotonic()
            if current != seen or now - began > AWAY_S:
                seen, seen_at = current, now
            holder = holder_of(current)
            if holder.get("token") == self._token:  # made, but the answer was lost on its way
                self._hold()
                return self
            if is_dead(holder) or now - seen_at > self._ttl_s:
                if self._files.discard(self._name, current):
                    log.info("%s: took over from %s", self._what, _who(holder))
                continue
            self._wait_for(holder, announced=announced)
            announced = True
        return self

    def _wait_for(self, holder: dict[str, Any], *, announced: bool) -> None:
        """Wait a moment for a living holder; say so the first time.

        Raises:
            BusyError: Asked not to wait.
            Interrupted: Asked to stop.
        """
        if not self._wait:
            raise BusyError(f"{self._what} is being worked on by {_who(holder)}")
        if not announced:
            self._told(f"{self._what} is being worked on by {_who(holder)}; waiting for it")
        if self._stopping():
            raise Interrupted(f"stopped while waiting for {self._what}")
        time.sleep(POLL_S)

    def ours(self) -> bool:
        """Whether this process still holds the lease, as the file says now."""
        current = self._files.read_or_none(self._name)
        return current is not None and holder_of(current).get("token") == self._token

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
                current = self._files.read_or_none(self._name)
                if current is not None and holder_of(current).get("token") != self._token:
                    who = _who(holder_of(current))
                    log.warning("%s: the lease was taken over by %s", self._what, who)
                    return
                self._beats += 1
                if current is None:  # judged dead and discarded: ours again if nobody has it yet
                    self._files.create(self._name, self._content())
                else:
                    self._files.write(self._name, self._content())
            except OSError as error:  # storage that fails for a moment must not lose the lease
                log.warning("%s: the lease could not be renewed: %s", self._what, error)

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
