"""What work tells while it runs, and how it hears that it should stop."""

from typing import Protocol


class Watch(Protocol):
    """Listens to a step's progress; asked now and then whether to stop."""

    def progress(self, unit: str, done: int, total: int, **numbers: float) -> None:
        """Hear that ``done`` of ``total`` units (steps, rows) are done, with the rates of now."""

    def say(self, text: str) -> None:
        """Hear one line for the user."""

    def stopping(self) -> bool:
        """Whether to stop at the next safe point."""


class Silent:
    """Hears nothing and never stops."""

    def progress(self, unit: str, done: int, total: int, **numbers: float) -> None:
        """Hear nothing."""

    def say(self, text: str) -> None:
        """Hear nothing."""

    def stopping(self) -> bool:
        """Never."""
        return False
