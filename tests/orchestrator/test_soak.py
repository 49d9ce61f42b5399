"""Many rounds in one process: memory, files, threads, actors and reservations stay as they were."""

import sys
from pathlib import Path

import psutil
import pytest

from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.ray_session import import_ray
from orchestrator.session import play_run
from orchestrator.signals import StopRequest
from tests.orchestrator.small_runs import prepare_small, small_config

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
MB = 2**20
MOST_MB = 40
"""Memory that may come with the later rounds: caches of the allocator, the growing record."""


class Counting(Console):
    """A console that counts what this process holds at the end of every round."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.held: list[dict[str, float]] = []

    def hear(self, event) -> None:
        super().hear(event)
        if event["event"] == "round_finished":
            process = psutil.Process()
            self.held.append(
                {
                    "MB": process.memory_info().rss / MB,
                    "files": process.num_fds(),
                    "threads": process.num_threads(),
                    **on_ray(),
                }
            )


def on_ray() -> dict[str, float]:
    """What lives and is reserved on the cluster that this process has joined, if any."""
    ray = import_ray()
    if not ray.is_initialized():
        return {}
    from ray._private.state import actors, state

    groups = state.placement_group_table()
    return {
        "actors": sum(a["State"] not in ("DEAD",) for a in actors().values()),
        "groups": sum(g["state"] != "REMOVED" for g in groups.values()),
    }


def play_rounds(config: RunConfig) -> list[dict[str, float]]:
    console = Counting()
    play_run(config, console, StopRequest())
    return console.held


def stays(held: list[dict[str, float]], early: int) -> None:
    """What the last rounds hold is what an early one held."""
    before, after = held[early], held[-1]
    sys.stdout.write(f"{before} became {after} over {len(held) - 1 - early} rounds\n")
    assert after["MB"] - before["MB"] < MOST_MB
    for name in ("files", "threads", "actors", "groups"):
        assert after.get(name, 0) <= before.get(name, 0) + 2, name


def test_sixty_rounds_in_one_process_hold_what_ten_do(tmp_path):
    data = prepare_small(tmp_path / "data")
    config = small_config(
        data,
        tmp_path / "run",
        "recipe.policy.num_rounds=60",
        "recipe.training.steps={first_round: 3, base: 2}",
    )
    stays(play_rounds(config), early=10)


@pytest.mark.ray
def test_rounds_on_ray_leave_no_actor_and_no_reservation(tmp_path, ray_cluster):
    data: Path = prepare_small(tmp_path / "data")
    config = small_config(
        data,
        tmp_path / "run",
        "placement.engine=ray",
        "placement.label_actors=1",
        "recipe.policy.num_rounds=8",
        "recipe.training.steps={first_round: 3, base: 2}",
    )
    stays(play_rounds(config), early=3)
