"""What every place can do with a run: show what it would start, start, look, follow, stop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from cluster.job import Job
from cluster.standing import Standing

Say = Callable[[str], None]


@dataclass(frozen=True)
class Started:
    """A run that a place has taken on."""

    id: str
    """Identity of the run or sweep."""
    place_id: str
    """How the place names it: submission, Kubernetes name, Slurm job, process."""
    attached: bool = False
    """Whether it was there before."""


class Launcher(Protocol):
    """One place."""

    def preview(self, job: Job) -> str:
        """What `start` would hand to the place, checked; nothing is started.

        Raises:
            ConfigError: The job can't be started so.
        """

    def start(self, job: Job, say: Say) -> Started:
        """Start the job, or find the one that runs already.

        Raises:
            ConfigError: The job can't be started so.
            InfeasibleError: The place can't be reached, or refuses.
        """

    def standing(self, started: Started) -> Standing:
        """Where it stands.

        Raises:
            InfeasibleError: The place can't be reached.
        """

    def logs(self, started: Started, *, follow: bool) -> Iterator[str]:
        """Pieces of what it printed; with `follow` until it ends.

        Raises:
            InfeasibleError: The place can't be reached.
        """

    def stop(self, started: Started, say: Say) -> Standing:
        """Ask it to stop at its next safe point, wait at most its grace; where it stands then.

        Raises:
            InfeasibleError: The place can't be reached.
        """
