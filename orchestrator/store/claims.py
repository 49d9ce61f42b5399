"""Turns on an object store that can't rename or create atomically: one process acts at a time.

Before it acts on a file, a process writes a claim of its own beside it and lists all claims; it
acts only when it sees no other. The argument needs no clock, only that a put is seen by every
listing that begins after it, which S3, GCS and Azure promise: of two processes that act, let A be
the one whose last listing came first. That listing did not show B's claim, so B claimed after it;
B's last listing did not show A's claim, so A had removed it, which it does after it acted. So B
acts on what A left. Where two see each other the smaller name waits and the larger one steps back.

A process that dies leaves its claim; others remove one that they have seen for ``CLAIM_S`` seconds.
One that slept for longer than that between its listing and its act is not stopped by this: it is
the case of a lease that outlives its holder, and is found before a step is committed.
"""

import time
import uuid
from collections.abc import Callable
from typing import Protocol

CLAIM_S = 10.0
POLL_S = 0.05


class Marks(Protocol):
    """What claims need of the storage."""

    def put(self, name: str) -> None:
        """Write an empty file."""

    def seen(self, prefix: str) -> list[str]:
        """Names that begin so, listed now."""

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens if there is none."""


def in_turn(marks: Marks, name: str, act: Callable[[], bool], *, claim_s: float = CLAIM_S) -> bool:
    """What ``act`` returns, done while no other process acts on ``name``; False if another does."""
    folder, slash, last = name.rpartition("/")
    prefix = f"{folder}{slash}.{last}.claim-"
    own = f"{prefix}{uuid.uuid4().hex}"
    since: dict[str, float] = {}
    ahead: set[str] = set()
    marks.put(own)
    try:
        while True:
            others = [each for each in marks.seen(prefix) if each != own]
            if ahead and not ahead & set(others):
                return False
            if not others:
                return act()
            now = time.monotonic()
            since = {each: since.get(each, now) for each in others}
            for each in (each for each, first in since.items() if now - first > claim_s):
                marks.remove(each)
            if not ahead and min(others) < own:
                marks.remove(own)
                ahead = {each for each in others if each < own}
            time.sleep(POLL_S)
    finally:
        if not ahead:
            marks.remove(own)
