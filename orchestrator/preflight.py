"""Before work starts: every node writes to the store, reads back and deletes."""

import socket
import uuid
from typing import Any

from orchestrator import ray_session
from orchestrator.errors import InfeasibleError
from orchestrator.store.retry import Retry
from orchestrator.store.store import Store

PATIENCE_S = 90.0
BRIEF = Retry(most_s=10.0, most_tries=2)
"""A node that can't use the store is told soon."""


def faults_of_nodes(store: str) -> dict[str, str]:
    """What keeps each node from using the store, by the node's address; empty where all is well.

    This process writes a small file that every node must read, and each node writes, reads and
    deletes one of its own. This process must have joined a cluster.
    """
    ray = ray_session.import_ray()
    opened = Store(store)
    opened.check_writable()
    name = f".probe-{uuid.uuid4().hex}"
    opened.files.write(name, name.encode())
    nodes = [node for node in ray.nodes() if node["Alive"]]
    try:
        tasks = {
            _shown(node): ray.remote(num_cpus=0, max_retries=0)(_look)
            .options(label_selector={"ray.io/node-id": node["NodeID"]})
            .remote(opened.root, name)
            for node in nodes
        }
        answers = {node: _answer(ray, task) for node, task in tasks.items()}
    finally:
        opened.files.delete(name)
    alive = {_shown(node) for node in ray.nodes() if node["Alive"]}  # one may have left by now
    return {node: answer for node, answer in answers.items() if answer and node in alive}


def check_nodes(store: str) -> None:
    """Refuse to start where a node can't use the store; nothing is done on a cluster of one node.

    Raises:
        InfeasibleError: Names the nodes and what each met.
    """
    ray = ray_session.import_ray()
    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return  # the driver is that node, and has tried the store itself
    if faults := faults_of_nodes(store):
        raise InfeasibleError(
            f"the store at {store} can't be used from {told(faults)}; put it on storage that all "
            "nodes share, with credentials in every node's environment"
        )


def told(faults: dict[str, str]) -> str:
    """Nodes and their faults in one line."""
    return "; ".join(f"node {node} ({fault})" for node, fault in sorted(faults.items()))


def _look(root: str, name: str) -> str:
    """What keeps this node from using the store, or nothing."""
    try:
        store = Store(root, BRIEF)
        store.check_writable()
        content = store.files.read_or_none(name)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told with the node's name
        return f"{type(error).__name__} on {socket.gethostname()}: {error}"
    if content is None:
        return "does not see what the driver wrote: this folder is another one there"
    return "" if content == name.encode() else "reads other bytes than the driver wrote"


def _answer(ray: Any, task: Any) -> str:
    try:
        found: str = ray.get(task, timeout=PATIENCE_S)
    except ray.exceptions.GetTimeoutError:
        return f"did not answer within {PATIENCE_S:g} s"
    except ray.exceptions.RayError as error:
        return (str(error).strip().splitlines() or [repr(error)])[-1]
    return found


def _shown(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} {node['NodeID'][:8]}"
