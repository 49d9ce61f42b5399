"""A small actor through which work in other processes tells the driver and hears its wish to stop.

It lives on the driver's node and needs no CPU. Progress is overwritten, lines and events are kept
until the driver reads them; nothing here is needed after a crash.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

POLL_S = 0.2
ASK_EVERY_S = 1.0
News = tuple[str, str, dict[str, Any]]
"""Who tells it, what it is (progress, say, beat, or the name of an event), and its fields."""


class _Board:
    """What the actor holds."""

    def __init__(self) -> None:
        self._kept: list[News] = []
        self._latest: dict[str, News] = {}
        self._stop = False

    def tell(self, who: str, name: str, fields: dict[str, Any]) -> bool:
        """Take news; whether the driver wants everyone to stop."""
        if name in ("progress", "beat"):
            self._latest[who] = (who, name, fields)
        else:
            self._kept.append((who, name, fields))
        return self._stop

    def read(self, *, stop: bool) -> list[News]:
        """Everything since the last reading, events before progress."""
        self._stop = self._stop or stop
        news = self._kept + list(self._latest.values())
        self._kept, self._latest = [], {}
        return news


def open_board() -> Any:
    """A new board on this node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(_Board).remote()


def close_board(board: Any) -> None:
    """End a board; what was not read is lost."""
    import ray

    ray.kill(board)


class BoardWatch:
    """A watch that writes to a board: progress never waits for it, events do."""

    def __init__(self, board: Any, who: str = "") -> None:
        self._board, self._who = board, who
        self._answer: Any = None
        self._asked_at = 0.0
        self._stop = False

    def progress(self, unit: str, done: int, total: int, **numbers: float) -> None:
        import ray

        if self._answer is not None:
            ready, _ = ray.wait([self._answer], timeout=0)
            if not ready:
                return
            with contextlib.suppress(ray.exceptions.RayError):  # progress must never end work
                self._stop = self._stop or bool(ray.get(ready[0]))
        fields = {"unit": unit, "done": done, "total": total, **numbers}
        self._answer = self._board.tell.remote(self._who, "progress", fields)

    def say(self, text: str) -> None:
        self.emit("say", text=text)

    def emit(self, name: str, **fields: Any) -> None:
        """Tell an event."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):  # telling must never end work
            answer = self._board.tell.remote(self._who, name, fields)
            self._stop = self._stop or bool(ray.get(answer, timeout=30))
        self._asked_at = time.monotonic()

    def stopping(self) -> bool:
        if not self._stop and time.monotonic() - self._asked_at > ASK_EVERY_S:
            self.emit("beat")  # work that waits tells nothing else
        return self._stop


class Relay:
    """In the driver: carries what the board says to a listener while the block runs."""

    def __init__(
        self, board: Any, hear: Callable[[News], None], stopping: Callable[[], bool]
    ) -> None:
        self._board, self._hear, self._stopping = board, hear, stopping
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._read()

    def _run(self) -> None:
        while not self._end.wait(POLL_S):
            self._read()

    def _read(self) -> None:
        import ray

        try:
            news = ray.get(self._board.read.remote(stop=self._stopping()), timeout=30)
        except ray.exceptions.RayError:
            return
        for each in news:
            self._hear(each)
