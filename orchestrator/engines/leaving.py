"""When a training group should keep a checkpoint and end, because the cluster changes under it.

Two reasons: a node of a worker is told to leave (spot instances, a drained machine), or a group
that had to become smaller could grow again. In both cases the group ends at a checkpoint of its
own and another one goes on from there.
"""

import time
from collections.abc import Mapping

from orchestrator import ray_session
from orchestrator.errors import LostWorkError

LOOK_EVERY_S = 1.0
GROW_AFTER_S = 15.0
"""How long there must be room for more workers; starting a group takes about as long."""


class Group:
    """One attempt of a training: how many workers, where they are, whether they should end."""

    def __init__(
        self,
        need: Mapping[str, float],
        size: int,
        wanted: int,
        grow_after_s: float = GROW_AFTER_S,
    ) -> None:
        """``need`` is what one worker reserves; ``wanted`` the workers of a full group."""
        self._grow_after_s = grow_after_s
        self._need, self.size, self._wanted = need, size, wanted
        self._nodes: set[str] = set()
        self._looked_at = 0.0
        self._room_since: float | None = None
        self.why = ""
        """Why the group should end; empty while it should go on."""

    def placed(self, node: str) -> None:
        """Hear that a worker runs on this node."""
        self._nodes.add(node)

    def should_end(self) -> bool:
        """Whether the group should keep a checkpoint and end; looks at most once a second."""
        now = time.monotonic()
        if self.why or now - self._looked_at < LOOK_EVERY_S:
            return bool(self.why)
        self._looked_at = now
        if leaving := self._nodes & ray_session.leaving_nodes():
            shown = ", ".join(node[:12] for node in sorted(leaving))
            self.why = f"node {shown} is about to leave the cluster"
        elif self._could_grow(now):
            self.why = f"there is room for more than {self.size} workers"
        return bool(self.why)

    def _could_grow(self, now: float) -> bool:
        if self.size >= self._wanted or not self._nodes:
            return False
        if not ray_session.room_on_staying_nodes(self._need, free=True):
            self._room_since = None
            return False
        self._room_since = self._room_since or now
        return now - self._room_since >= self._grow_after_s


def size_of_group(need: Mapping[str, float], wanted: int, least: int | None) -> int:
    """How many workers to start with, now that some nodes are about to leave or have left.

    Raises:
        LostWorkError: The nodes that stay have no room for the smallest group.
    """
    room = ray_session.room_on_staying_nodes(need, free=False)
    smallest = wanted if least is None else least
    if room < smallest:
        hint = "" if least else "; placement.least_train_workers lets it go on with fewer"
        raise LostWorkError(
            f"nodes leave the cluster, and those that stay have room for {room} training workers, "
            f"{smallest} are needed; the checkpoint is kept: start the same command again{hint}"
        )
    return min(wanted, room)
