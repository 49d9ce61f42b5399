"""Every exception of the project, grouped by what must happen next, with its exit code."""

from typing import ClassVar


class SelftrainError(Exception):
    """The base: one message for the user, one exit code for the shell."""

    exit_code: ClassVar[int] = 1


class ConfigError(SelftrainError, ValueError):
    """The user mends the configuration or the command; never retried."""

    exit_code = 2


class InfeasibleError(SelftrainError, RuntimeError):
    """What was asked for can't be had here: too few CPUs or GPUs, no such device."""

    exit_code = 3


class DataError(SelftrainError, ValueError):
    """The data must be mended: names the row or file and the reason; never retried."""

    exit_code = 4


class StoreError(SelftrainError, RuntimeError):
    """A stored file is missing or differs from its record."""

    exit_code = 4


class AllFailedError(SelftrainError, RuntimeError):
    """Every trial of a sweep failed; the message holds the first error."""

    exit_code = 5


class LostWorkError(SelftrainError, RuntimeError):
    """A worker or node died more often than the budget allows; starting again resumes."""

    exit_code = 75


class StorageAwayError(SelftrainError, OSError):
    """Storage failed for longer than it is waited for; starting again resumes."""

    exit_code = 75


class StorageFullError(StorageAwayError):
    """There is no room where something must be written; starting again with room resumes."""


class Interrupted(SelftrainError):  # noqa: N818 - an event, not a fault
    """Stopped on request; starting the same command again goes on from here."""

    exit_code = 75


class BusyError(SelftrainError, RuntimeError):
    """Another process works on this and the caller asked not to wait."""

    exit_code = 75
