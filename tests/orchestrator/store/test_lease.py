"""Leases: one holder at a time, taken over from the dead and never from the living."""

import json
import os
import threading
import time
from collections.abc import Callable

import pytest

from orchestrator.errors import BusyError
from orchestrator.store.files import Files
from orchestrator.store.lease import TTL_S, Lease, holder_of, is_dead
from tests.orchestrator.store.worker import Worker

NAME = "leases/step.json"
ELSEWHERE = json.dumps({"token": "t", "host": "elsewhere", "pid": 7, "beats": 0}).encode()


@pytest.fixture
def files(root) -> Files:
    return Files(root)


def silent(text: str) -> None:
    raise AssertionError(f"nobody should be waited for: {text}")


def lease(files: Files, **settings) -> Lease:
    return Lease(files, NAME, what="step train 1", **{"told": silent} | settings)


def beats(files: Files) -> int:
    return int(holder_of(files.read(NAME))["beats"])


@pytest.fixture
def dead(tmp_path) -> bytes:
    """The lease of a process of this machine that was killed."""
    store = tmp_path / "elsewhere"
    with Worker(store) as worker:
        assert worker.says()[0] == "working"
        worker.murder()
    (path,) = (store / "leases").iterdir()
    return path.read_bytes()


class Announced(Files):
    """Files that tell when the lease was written often enough."""

    def __init__(self, root: str, times: int) -> None:
        super().__init__(root)
        self._left = times
        self.written = threading.Event()

    def write(self, name: str, content: bytes) -> None:
        super().write(name, content)
        self._left -= name == NAME
        if self._left <= 0:
            self.written.set()


class Faltering(Announced):
    """Files that can't take the first renewal, as storage fails for a moment."""

    failed = False

    def write(self, name: str, content: bytes) -> None:
        if not self.failed and holder_of(content).get("beats") == 1:
            self.failed = True
            raise OSError("storage is away")
        super().write(name, content)


class Overtaken(Files):
    """Files on which something happens just before the first file is discarded."""

    def __init__(self, root: str, before: Callable[[], object]) -> None:
        super().__init__(root)
        self._before: Callable[[], object] | None = before

    def discard(self, name: str, content: bytes) -> bool:
        before, self._before = self._before, None
        if before is not None:
            before()
        return super().discard(name, content)


class Unanswered(Files):
    """Files that make what they are asked for and say that they did not, as a lost answer does."""

    def create(self, name: str, content: bytes) -> bool:
        super().create(name, content)
        return False


def test_a_lease_whose_making_was_not_answered_is_held_at_once(root):
    with lease(Unanswered(root)) as held:
        assert held.held


def test_a_lease_is_a_file_while_the_block_runs(files):
    with lease(files) as held:
        assert held.held
        assert holder_of(files.read(NAME))["pid"] == os.getpid()
    assert not held.held
    assert not files.exists(NAME)


def test_a_lease_is_given_back_when_the_block_raises(files):
    def work() -> None:
        with lease(files):
            raise KeyError("stop")

    with pytest.raises(KeyError):
        work()
    assert not files.exists(NAME)


def test_who_does_not_want_to_wait_is_told_who_holds_it(files):
    with (
        lease(files),
        pytest.raises(
            BusyError, match=rf"step train 1 is being worked on by process {os.getpid()} on "
        ),
        lease(files, wait=False),
    ):
        pass


def test_nobody_waits_for_work_that_is_done(files):
    files.write(NAME, ELSEWHERE)
    with lease(files, done=lambda: True) as held:
        assert not held.held
    assert files.read(NAME) == ELSEWHERE


def test_a_waiter_goes_on_as_soon_as_the_work_is_done_and_heard_once_for_whom_it_waits(files):
    told: list[str] = []
    files.write(NAME, ELSEWHERE)
    with lease(files, done=lambda: bool(told), told=told.append) as held:
        assert not held.held
    assert told == ["step train 1 is being worked on by process 7 on elsewhere; waiting for it"]


def test_a_lease_of_another_machine_that_stands_still_is_taken_over_after_its_time(files):
    told: list[str] = []
    files.write(NAME, ELSEWHERE)
    began = time.monotonic()
    with lease(files, ttl_s=0.3, told=told.append) as held:
        assert held.held
        assert 0.3 <= time.monotonic() - began < TTL_S
    assert len(told) == 1
    assert files.names("leases", recursive=True) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"token": "t"}'])
def test_a_lease_that_says_nothing_of_its_holder_is_taken_over_after_its_time(files, content):
    told: list[str] = []
    files.write(NAME, content)
    with lease(files, ttl_s=0.1, told=told.append) as held:
        assert held.held
    assert told == [
        "step train 1 is being worked on by process ? on an unknown machine; waiting for it"
    ]


def test_a_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(files, dead):
    files.write(NAME, dead)
    with lease(files, wait=False) as held:
        assert held.held


def test_a_process_that_was_killed_and_not_yet_waited_for_is_dead(tmp_path):
    with Worker(tmp_path) as worker:
        assert worker.says()[0] == "working"
        (path,) = (tmp_path / "leases").iterdir()
        holder = holder_of(path.read_bytes())
        assert not is_dead(holder)
        os.kill(worker.pid, 9)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(holder)


def test_another_process_with_the_number_of_a_dead_one_is_not_its_holder(files, dead):
    holder = holder_of(dead) | {"pid": os.getpid()}
    assert is_dead(holder)
    assert not is_dead(holder | {"host": "elsewhere"})


def test_a_living_lease_is_renewed_and_never_taken_over(tmp_path):
    root = str(tmp_path)
    shared = Announced(root, times=40)
    waiting, got = threading.Event(), threading.Event()

    def wait() -> None:
        with lease(Files(root), ttl_s=1.5, told=lambda text: waiting.set()):
            got.set()

    waiter = threading.Thread(target=wait)
    with lease(shared, ttl_s=0.2):  # renewed every 0.05 s
        waiter.start()
        assert waiting.wait(30)
        assert shared.written.wait(30)
        assert beats(shared) >= 39
        assert not got.is_set()
    waiter.join(30)
    assert got.is_set()


def test_a_lease_outlives_a_moment_without_storage(root):
    files = Faltering(root, times=2)
    with lease(files, ttl_s=0.1):
        assert files.written.wait(30)
    assert files.failed


def test_a_lease_that_was_taken_over_is_left_to_its_new_holder(files):
    with lease(files):
        files.write(NAME, ELSEWHERE)
    assert files.read(NAME) == ELSEWHERE


def test_of_two_that_take_over_the_slower_one_does_not_end_the_lease_of_the_faster(root, dead):
    files = Files(root)
    files.write(NAME, dead)
    faster = lease(files)
    slower = lease(Overtaken(root, faster.__enter__), wait=False)
    try:
        with pytest.raises(BusyError, match=f"process {os.getpid()}"), slower:
            pass
        assert faster.held
        assert holder_of(files.read(NAME))["pid"] == os.getpid()
        assert files.names("leases") == [NAME]
    finally:
        faster.__exit__(None, None, None)
    assert not files.exists(NAME)
