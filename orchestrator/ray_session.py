"""Ray in this process: environment before the import, quiet logs, feasibility before the start."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config import Placement
from orchestrator.environment import prepare_environment
from orchestrator.errors import InfeasibleError, LostWorkError

log = logging.getLogger(__name__)

CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Without it Ray listens on 127.0.0.1; it says so of two systems, and obeys it on all."""

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Cluster:
    """What the cluster has."""

    cpus: float
    gpus: float
    nodes: int
    largest_node_cpus: float = 0.0
    """CPUs of the node that has most; nothing larger can ever be placed."""
    joined_here: bool = False
    """Whether this call joined or started it, and so should leave it again."""


def import_ray() -> Any:
    """The ray module, imported with our environment and quiet loggers."""
    prepare_environment()
    import ray

    quieten()
    return ray


def quieten() -> None:
    """Silence Ray's loggers; again after each import of its parts, which set their own levels."""
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


def connect(placement: Placement) -> Cluster:
    """Join the cluster that the placement or RAY_ADDRESS names, or start one on this machine.

    A process that has joined a cluster already stays in it.

    Raises:
        InfeasibleError: The cluster can't be reached, or this process has joined another one.
        LostWorkError: Ray could not be started here; a busy machine may start it the next time.
    """
    ray = import_ray()
    joined_here = not ray.is_initialized()
    if not joined_here:
        check_same_cluster(placement.ray_address, ray.get_runtime_context().gcs_address)
    else:
        address = placement.ray_address or os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address:
            options["address"] = address
        else:
            options |= {"include_dashboard": False, "address": "local"}
        before = signal.getsignal(signal.SIGTERM)
        try:
            with nullcontext() if address else loopback_only():
                ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InfeasibleError(
                f"no Ray cluster at {address or 'this machine'}: {error}; "
                "check placement.ray_address, or leave it out to start Ray here"
            ) from error
        except Exception as error:  # Ray raises a bare one where a process is not up in time
            raise LostWorkError(
                f"Ray could not be started on this machine: {error}; look at free memory, at free "
                "disk and rights below its temporary folder (RAY_TMPDIR), then start the same "
                "command again"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own would end the process at once
    return replace(cluster_size(), joined_here=joined_here)


def check_same_cluster(wanted: str | None, joined: str) -> None:
    """Refuse a ``HOST:PORT`` that is not that of the cluster this process has joined.

    Raises:
        InfeasibleError: It names another cluster.
    """
    if wanted is None or wanted in ("auto", "local", joined) or "://" in wanted:
        return
    host, _, port = wanted.rpartition(":")
    with suppress(OSError):  # a name that nothing knows is refused below
        found = socket.gethostbyname(host)
        if f"{found}:{port}" == joined or (found == LOOPBACK and joined.endswith(f":{port}")):
            return
    raise InfeasibleError(
        f"placement.ray_address is {wanted}, but this process has joined the Ray cluster at "
        f"{joined}; leave the address out, or call ray.shutdown() before"
    )


@contextmanager
def loopback_only() -> Iterator[None]:
    """A cluster started inside the block listens on 127.0.0.1 only: no other machine reaches it.

    Nothing changes where the user has set Ray's own variable.
    """
    from ray._private import ray_constants  # its switch was read when ray was imported

    if CLUSTERS in os.environ:
        yield
        return
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[CLUSTERS] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[CLUSTERS]


def cluster_size() -> Cluster:
    """CPUs, GPUs and nodes of the cluster that this process has joined."""
    ray = import_ray()
    found = ray.cluster_resources()
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max((node.get("CPU", 0.0) for node in alive), default=0.0)
    return Cluster(found.get("CPU", 0.0), found.get("GPU", 0.0), len(alive), largest)


def check_feasible(placement: Placement, cluster: Cluster) -> None:
    """Refuse at once what the cluster can never give, instead of waiting for it.

    Raises:
        InfeasibleError: Says what is needed and what is there.
    """
    faults = []
    least = placement.least_train_workers or placement.train_workers
    needed = least * placement.cpus_per_worker
    if needed > cluster.cpus:
        faults.append(
            f"{least} training workers with {placement.cpus_per_worker:g} CPUs each need "
            f"{needed:g} CPUs, the cluster has {cluster.cpus:g}"
        )
    if placement.cpus_per_worker > cluster.largest_node_cpus:
        faults.append(
            f"a worker needs {placement.cpus_per_worker:g} CPUs of one node, the largest node has "
            f"{cluster.largest_node_cpus:g}: lower placement.cpus_per_worker"
        )
    on_gpus = placement.use_gpu is not False and cluster.gpus > 0
    gpus = least * placement.gpus_per_worker
    if placement.use_gpu and not cluster.gpus:
        faults.append("placement.use_gpu is true, but the cluster has no GPU")
    if on_gpus and gpus > cluster.gpus:
        faults.append(
            f"{least} training workers with {placement.gpus_per_worker:g} GPUs each need {gpus:g} "
            f"GPUs, the cluster has {cluster.gpus:g}: lower placement.train_workers or "
            "gpus_per_worker, or set placement.use_gpu: false"
        )
    if faults:
        raise InfeasibleError("; ".join(faults))


def leaving_nodes() -> frozenset[str]:
    """Ids of nodes that are told to leave: drained, or about to be taken away.

    Empty where Ray is not up, or too old to say.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return frozenset()
    try:
        return frozenset(ray._private.state.state.get_draining_nodes() or ())
    except Exception as error:  # noqa: BLE001 - a look that fails is made again
        log.debug("can't ask which nodes leave: %s", error)
        return frozenset()


def own_node() -> str:
    """The id of the node that this process runs on."""
    return str(import_ray().get_runtime_context().get_node_id())


def own_node_leaves() -> bool:
    """Whether the node of this process is told to leave the cluster, or has left it.

    A node that nothing is reserved on leaves as soon as it is told.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    try:
        own = own_node()
        gone = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
    except Exception as error:  # noqa: BLE001 - a look that fails is made again
        log.debug("can't ask whether this node leaves: %s", error)
        return False
    return own in leaving_nodes() | gone


def room_on_staying_nodes(need: Mapping[str, float], *, free: bool) -> int:
    """How many workers with these resources fit on the nodes that stay.

    ``free`` counts what nobody uses now; otherwise all that the nodes have.
    """
    ray = import_ray()
    there = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    if free:
        unused = ray._private.state.available_resources_per_node()
        there = {node: unused.get(node, {}) for node in there}
    leaving = leaving_nodes()
    return sum(
        int(min(has.get(name, 0.0) // amount for name, amount in need.items() if amount))
        for node, has in there.items()
        if node not in leaving
    )


def log_folder() -> str:
    """Where Ray writes the logs of its processes, for error messages."""
    ray = import_ray()
    try:
        node = ray._private.worker.global_worker.node
        return f"{node.get_session_dir_path()}/logs"
    except AttributeError:
        return "the session's logs folder on the head node"


def disconnect(cluster: Cluster) -> None:
    """Leave the cluster if `connect` joined it; one that this process started then stops."""
    ray = import_ray()
    if cluster.joined_here and ray.is_initialized():
        ray.shutdown()
