"""A process of its own that works on a step, told through pipes what to do and when."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from orchestrator.store.store import Identity

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0
IDENTITY = Identity("train", 1, {"rate": 0.1}, {"labelled": "x"})
SCRIPT = """
import json, sys
from orchestrator.store.store import Identity, Outcome, Store

def say(what, text=""):
    print(json.dumps([what, text]), flush=True)

def work(folder):
    folder.note("half", b"half")
    say("working")
    sys.stdin.readline()
    return Outcome((folder.write("a.bin", b"content"),))

identity = Identity("train", 1, {"rate": 0.1}, {"labelled": "x"})
record, found = Store(sys.argv[1]).once(identity, work, told=lambda text: say("told", text))
say("found" if found else "computed", record.finished_at)
"""


class Worker:
    """Asks a store for one step; works only when let go."""

    def __init__(self, store: str | Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(store)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._guard = threading.Timer(PATIENCE_S, self._process.kill)
        self._guard.start()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._guard.cancel()
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def says(self) -> tuple[str, str]:
        """The next thing that it says; fails if it ended without."""
        assert self._process.stdout is not None
        what, text = json.loads(self._process.stdout.readline())
        return what, text

    def go(self) -> None:
        """Let the work end."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def ends(self) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait()

    def murder(self) -> None:
        """End it as the kernel does, with no chance to tidy up."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
