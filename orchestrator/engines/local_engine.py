"""The local engine: every step in this process. A debugger works, no cluster is needed."""

from collections.abc import Callable, Iterator, Sequence

import torch

from orchestrator.config import Placement
from orchestrator.engines.base import Result
from orchestrator.errors import InfeasibleError, Interrupted
from orchestrator.jobs.job import LabelJobs, TrainJobs
from orchestrator.jobs.labellers import labeller_of
from orchestrator.jobs.labelling import ShardReport
from orchestrator.jobs.training import run_training
from orchestrator.store.store import Outcome
from orchestrator.watch import Watch
from trainables.worker import Worker


class LocalEngine:
    """Plays steps in this process, one after the other."""

    name = "local"

    def __init__(self, placement: Placement) -> None:
        """Check that this process can do what the placement asks.

        Raises:
            InfeasibleError: A GPU is asked for and there is none.
        """
        self._placement = placement
        self._device = local_device(placement)

    def train(self, job: TrainJobs, watch: Watch) -> Outcome:
        worker = Worker(device=torch.device(self._device), rows_per_pass=job.rows_per_pass)
        outcome = run_training(job, worker, watch)
        if outcome is None:
            raise AssertionError("the only worker is the first one")
        return outcome

    def label(
        self, job: LabelJobs, fragments: Sequence[int], watch: Watch
    ) -> Iterator[ShardReport]:
        labeller = labeller_of(job, self._device)
        for fragment in fragments:
            if watch.stopping():
                raise Interrupted("labelling stopped between two fragments; finished ones stay")
            yield labeller.label(fragment)

    def over(
        self, function: Callable[[Sequence[int]], Result], fragments: Sequence[int], watch: Watch
    ) -> list[Result]:
        del watch  # reading shards takes no time worth stopping in
        return [function(fragments)]

    def device(self) -> str:
        return self._device

    def close(self) -> None:
        """Nothing is held."""


def local_device(placement: Placement) -> str:
    """The torch device of this process: the first GPU, if wanted and there, else the CPU.

    Raises:
        InfeasibleError: A GPU is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if placement.use_gpu and not there:
        raise InfeasibleError("placement.use_gpu is true, but torch sees no GPU on this machine")
    return "cuda:0" if there and placement.use_gpu is not False else "cpu"
