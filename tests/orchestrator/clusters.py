"""Ray's own cluster of several nodes on this machine, as tests start it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from orchestrator.ray_session import import_ray

BUSY_S = 60
"""Seconds that a node may keep a health check waiting: the machine that tests run on is busy, and a
node that is gone refuses the next check at once."""
START_S = 180
"""Most seconds until a node has joined; Ray's own test cluster waits 30, which a busy machine
passes."""


@contextlib.contextmanager
def cluster_of(num_cpus: int, *, dashboard: bool = False) -> Iterator[Any]:
    """A head with these CPUs, in processes of its own; tests let nodes join.

    A cluster that this process has joined is left: a run would play there.
    """
    ray = import_ray()
    from ray.cluster_utils import Cluster

    ray.shutdown()
    built = Cluster()
    try:
        join(
            built,
            num_cpus=num_cpus,
            include_dashboard=dashboard,
            _system_config={"health_check_timeout_ms": 1000 * BUSY_S},
        )
        yield built
    finally:
        ray.shutdown()
        built.shutdown()


def join(cluster: Any, **node_args: Any) -> Any:
    """A new node of the cluster, its head if it is the first, once the cluster counts it."""
    node = cluster.add_node(wait=False, **node_args)
    cluster._wait_for_node(node, START_S)
    return node
