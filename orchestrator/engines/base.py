"""What an engine does: train one student, label fragments, map a function over fragments."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from orchestrator.jobs.job import LabelJobs, TrainJobs
from orchestrator.jobs.labelling import ShardReport
from orchestrator.store.store import Outcome
from orchestrator.watch import Watch

Result = TypeVar("Result")


class Engine(Protocol):
    """Does the work of steps; on CPU all engines write the same tables."""

    name: str

    def train(self, job: TrainJobs, watch: Watch) -> Outcome:
        """Train one student to the end.

        Raises:
            Interrupted: The watch asked to stop; a checkpoint was kept.
            LostWorkError: Workers died more often than the placement allows.
        """

    def label(
        self, job: LabelJobs, fragments: Sequence[int], watch: Watch
    ) -> Iterator[ShardReport]:
        """Label fragments of the pool, each exactly once; reports come in any order."""

    def over(
        self, function: Callable[[Sequence[int]], Result], fragments: Sequence[int], watch: Watch
    ) -> list[Result]:
        """The function's results over groups of fragments that together are all of them."""

    def device(self) -> str:
        """The torch device of work that is done in this process."""

    def close(self) -> None:
        """Give back what the engine holds."""
