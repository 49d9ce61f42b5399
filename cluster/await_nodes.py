"""`python -m cluster.await_nodes COUNT`: wait until a Ray cluster has its nodes."""

import sys
import time
from typing import Any

from orchestrator.config import Placement
from orchestrator.errors import InfeasibleError, SelftrainError
from orchestrator.ray_session import cluster_size, connect, disconnect

PATIENCE_S = 300.0
PAUSE_S = 1.0


def await_nodes(count: int, patience_s: float = PATIENCE_S) -> int:
    """Wait until the cluster that RAY_ADDRESS names has so many nodes; how many it has.

    Raises:
        InfeasibleError: It doesn't come up, or lacks nodes, for longer than the patience.
    """
    deadline = time.monotonic() + patience_s
    joined: Any = None
    while joined is None:
        try:
            joined = connect(Placement())
        except InfeasibleError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)
    try:
        while (found := cluster_size().nodes) < count:
            if time.monotonic() > deadline:
                raise InfeasibleError(
                    f"{found} of {count} nodes joined the Ray cluster within {patience_s:g} s"
                )
            time.sleep(PAUSE_S)
    finally:
        disconnect(joined)
    return found


if __name__ == "__main__":
    try:
        await_nodes(int(sys.argv[1]))
    except SelftrainError as fault:
        sys.exit(str(fault))
