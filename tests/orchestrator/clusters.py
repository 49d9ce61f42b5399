"""Ray's own cluster of several nodes on this machine, as tests start it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from orchestrator.ray_session import import_ray

BUSY_S = 60
"""Seconds that a node may keep a health check waiting: the machine that tests run on is busy, and a
node that is gone refuses the next check at once."""


@contextlib.contextmanager
def cluster_of(num_cpus: int, *, dashboard: bool = False) -> Iterator[Any]:
    """A head with these CPUs, in processes of its own; tests add nodes."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    built = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": num_cpus,
            "include_dashboard": dashboard,
            "_system_config": {"health_check_timeout_ms": 1000 * BUSY_S},
        },
    )
    try:
        yield built
    finally:
        ray.shutdown()
        built.shutdown()
