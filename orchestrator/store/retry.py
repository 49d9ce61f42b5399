"""Trying again what storage failed to do for a moment: bounded, slower each time, and told."""

import errno
import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.errors import StorageAwayError, StorageFullError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EINTR,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNREFUSED,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    }
)
"""System errors that may pass: NFS servers that restart, connections that are cut."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""System errors of a disk, a quota or a limit that is used up."""
PASSING_TEXT = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|THROTTL|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT"
    r"|curlCode|HTTP status (408|429|5\d\d)|\b(UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED)\b"
    r"|Incomplete|[Tt]imed? ?out|Connection (reset|refused|closed)",
)
"""What object stores' errors say where they may pass: HTTP 5xx, throttling, the network."""


def may_pass(error: OSError) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    return error.errno in PASSING or bool(PASSING_TEXT.search(str(error)))


def no_room(what: str, error: OSError) -> OSError:
    """The error that says what to do where there is no room; any other error as it is.

    ``what`` names what was tried.
    """
    if error.errno not in FULL or isinstance(error, StorageAwayError):
        return error
    return StorageFullError(
        f"{what} failed: {error.strerror}; make room there ('selftrain store gc' deletes what "
        "unfinished work left), then start the same command again: what is finished is kept"
    )


@dataclass(frozen=True)
class Retry:
    """How long storage that fails is asked again."""

    first_s: float = 0.2
    """Pause before the second try; each further one is twice as long."""
    longest_s: float = 15.0
    """Longest pause between two tries."""
    most_s: float = 120.0
    """Time after the first failure after which no new try begins."""
    most_tries: int = 20
    """Tries in all."""

    def call(self, what: str, act: Callable[[], Result]) -> Result:
        """The result of ``act``, which may be done more than once; ``what`` names it in messages.

        Pauses are drawn from the upper half of their length, so that many processes that failed
        together do not come back together.

        Raises:
            StorageAwayError: It failed for as long as this allows.
            StorageFullError: There is no room; this is not waited for.
            OSError: It failed in a way that does not pass; the first such error as it is.
        """
        began, pause = 0.0, self.first_s
        for number in range(1, self.most_tries + 1):
            try:
                return act()
            except OSError as error:
                if isinstance(error, StorageAwayError):
                    raise
                if error.errno in FULL:
                    raise no_room(what, error) from error
                if not may_pass(error):
                    raise
                now = time.monotonic()
                began = began or now
                wait = pause * (0.5 + random.random() / 2)
                if number == self.most_tries or now + wait - began > self.most_s:
                    raise StorageAwayError(
                        f"{what} failed {number} times in {now - began:.0f} s: {error}; "
                        "look at the network and the storage, then start the same command again"
                    ) from error
                log.warning("%s failed, trying again in %.1f s: %s", what, wait, error)
                time.sleep(wait)
                pause = min(2 * pause, self.longest_s)
        raise AssertionError("a retry has at least one try")
