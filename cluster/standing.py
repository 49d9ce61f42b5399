"""Where a started run stands, in the same words for every place."""

from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import AllFailedError, Interrupted

State = Literal["unknown", "waiting", "running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Standing:
    """Where it stands, and why as far as the place knows."""

    state: State
    reason: str = ""
    exit_code: int | None = None
    """Of the driver, where the place knows it."""
    command: str = ""
    """What the place runs, where it knows it."""

    @property
    def alive(self) -> bool:
        """Whether it waits for a start or runs."""
        return self.state in ("waiting", "running")

    @property
    def code(self) -> int:
        """The exit code of whoever waited for the end."""
        if self.state == "finished":
            return 0
        if self.state == "stopped" or self.exit_code is None:
            return Interrupted.exit_code if self.state == "stopped" else 1
        return self.exit_code

    def line(self, name: str) -> str:
        """One line for a person."""
        hints = {
            "unknown": "there is no such job",
            "stopped": "submit it again to go on",
            "failed": "submit it again to go on from the store",
        }
        told = [self.reason, "" if self.exit_code is None else f"exit code {self.exit_code}"]
        if self.exit_code == Interrupted.exit_code:
            told.append("interrupted: submit it again to go on")
        elif self.exit_code != AllFailedError.exit_code:
            told.append(hints.get(self.state, ""))
        return "; ".join([f"{name}: {self.state}", *filter(None, told)])
