"""Notices that this machine will be taken away: Ray drains the node that the run is played on."""

import threading

from orchestrator.ray_session import own_node_leaves
from orchestrator.signals import StopRequest

LOOK_EVERY_S = 2.0


class NodeNotice:
    """While the block runs: asks for a stop when this process's own Ray node is told to leave."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="notices", daemon=True)

    def __enter__(self) -> "NodeNotice":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(LOOK_EVERY_S):
            if own_node_leaves():
                self._stop.ask("this node is about to leave the Ray cluster")
                return
