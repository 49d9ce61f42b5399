"""Two workers in processes of their own, and what each of them ended with."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from trainables.checkpoint import state_from_bytes, state_to_bytes
from trainables.state import TrainState
from trainables.worker import Worker

ROOT = Path(__file__).parents[2]
Trained = Iterable[tuple[str, TrainState, dict[str, float]]]


def as_two_workers(
    work: Callable[[Worker, Path], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Do ``work``, a function of a module, in two processes; what fails there fails here."""
    monkeypatch.syspath_prepend(ROOT)  # the children import the module by its name
    torch.multiprocessing.spawn(_one_of_two, (work, str(folder)), nprocs=2)


def _one_of_two(rank: int, work: Callable[[Worker, Path], None], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    work(Worker(rank, 2), Path(folder))
    dist.destroy_process_group()


def keep(trained: Trained, worker: Worker, folder: Path) -> None:
    """Write the states and terms that a worker ended with, by name."""
    for name, state, terms in trained:
        path = folder / f"{name}-{worker.rank}"
        path.write_bytes(state_to_bytes(state))
        path.with_suffix(".json").write_text(json.dumps(terms))


def kept_by_two(
    folder: Path, name: str, begin: Callable[[], TrainState]
) -> tuple[list[TrainState], list[dict[str, float]]]:
    """The states, restored into what ``begin`` gives, and the terms of both workers."""
    states, terms = [], []
    for rank in (0, 1):
        path = folder / f"{name}-{rank}"
        states.append(begin())
        state_from_bytes(path.read_bytes(), states[-1])
        terms.append(json.loads(path.with_suffix(".json").read_text()))
    return states, terms
