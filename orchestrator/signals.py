"""Ctrl-C, SIGTERM and SIGUSR1: once stops at the next safe point, twice stops now.

Slurm sends SIGUSR1 before a job's time is over, if the job asks for it (`--signal=B:USR1@180`).
"""

import os
import signal
import sys
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Set by the first signal; the second one ends the process."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> None:
        """Take over the signals; only the main thread can."""
        for number in SIGNALS:
            signal.signal(number, self._hear)

    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def ask(self, why: str) -> None:
        """Ask for a stop at the next safe point, as a first signal does; any thread may."""
        if not self._event.is_set():
            self._event.set()
            sys.stderr.write(f"\n{why}: stopping at the next safe point\n")
            sys.stderr.flush()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._event.is_set():
            os._exit(128 + number)
        self._event.set()
        name = signal.Signals(number).name
        sys.stderr.write(f"\n{name}: stopping at the next safe point; once more stops now\n")
        sys.stderr.flush()
