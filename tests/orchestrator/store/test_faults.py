"""Storage that fails for a moment: tried again, bounded, told; one that fails for good is named."""

import errno
import logging
import re
import threading
import uuid

import pytest

from orchestrator.errors import StorageAwayError, StorageFullError
from orchestrator.store.files import Files
from orchestrator.store.retry import Retry, may_pass
from orchestrator.store.store import Outcome, StepFolder, Store
from tests.orchestrator.faulty import each, now_and_then, proxy
from tests.orchestrator.helpers import addresses, play
from tests.orchestrator.store.worker import IDENTITY, Worker

FAULTS = (pytest.mark.slow, pytest.mark.chaos)
QUICK = Retry(first_s=0.001, longest_s=0.01, most_s=5.0, most_tries=4)
PASSING = [
    OSError("AWS Error SLOW_DOWN during PutObject operation: reduce it"),
    OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 56"),
    OSError("AWS Error UNKNOWN (HTTP status 503) during GetObject operation"),
    OSError("google::cloud::Status(UNAVAILABLE: retry)"),
    OSError(errno.ESTALE, "Stale file handle"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
]
LASTING = [
    FileNotFoundError(errno.ENOENT, "No such file"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError("AWS Error ACCESS_DENIED during PutObject operation"),
    OSError("AWS Error NO_SUCH_BUCKET during PutObject operation"),
    OSError("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation"),
]


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
]


class Failing:
    """Fails a number of times, then answers."""

    def __init__(self, error: OSError, times: int) -> None:
        self.error, self.left, self.calls = error, times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "answer"


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_may_pass_is_tried_again_and_told(error, caplog):
    act = Failing(error, times=2)
    with caplog.at_level(logging.WARNING):
        assert QUICK.call("reading a", act) == "answer"
    assert act.calls == 3
    assert len(caplog.records) == 2
    assert "reading a failed, trying again in" in caplog.text
    assert str(error) in caplog.text


@pytest.mark.parametrize("error", LASTING, ids=str)
def test_what_does_not_pass_is_raised_at_once(error):
    act = Failing(error, times=1)
    assert not may_pass(error)
    with pytest.raises(type(error), match=re.escape(str(error))) as raised:
        QUICK.call("reading a", act)
    assert raised.value is error
    assert act.calls == 1


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_is_told_at_once_with_what_to_do(error):
    act = Failing(error, times=1)
    with pytest.raises(StorageFullError, match=f"reading a failed: {error.strerror}; make room"):
        QUICK.call("reading a", act)
    assert act.calls == 1
    assert StorageFullError.exit_code == 75


def test_trying_ends_after_so_many_times_with_what_to_do():
    act = Failing(PASSING[0], times=100)
    with pytest.raises(StorageAwayError, match=r"reading a failed 4 times in \d+ s: .*SLOW_DOWN.*"):
        QUICK.call("reading a", act)
    assert act.calls == 4
    assert StorageAwayError.exit_code == 75


def test_trying_ends_after_so_much_time():
    act = Failing(PASSING[0], times=100)
    with pytest.raises(StorageAwayError, match="start the same command again"):
        Retry(first_s=0.05, most_s=0.2).call("reading a", act)
    assert 2 <= act.calls <= 8


def test_an_error_that_was_waited_for_is_not_waited_for_again():
    act = Failing(StorageAwayError("timed out"), times=1)
    with pytest.raises(StorageAwayError):
        QUICK.call("reading a", act)
    assert act.calls == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        "busy",
        "unanswered",
        *(pytest.param(f, marks=FAULTS) for f in ("slow", "error", "refused", "half")),
    ],
)
def test_a_step_is_committed_whole_though_every_third_request_fails(s3, fault):
    with proxy(s3.port, each("none", fault, "none")) as between:
        name = f"store-{uuid.uuid4().hex}"
        store = Store(s3.uri(name, between.port))
        record, found = store.once(IDENTITY, work, told=pytest.fail)
        assert not found
        assert store.read(record, "a.bin") == b"content"
        assert between.faults.count(fault) >= 5
    direct = Store(s3.uri(name))
    assert direct.faults(record.kind, record.address) == []
    assert direct.files.names("leases") == direct.files.hidden("leases/.") == []


def test_of_many_creators_on_a_failing_store_exactly_one_succeeds(s3):
    with proxy(s3.port, now_and_then(0.15)) as between:
        files, together = Files(s3.uri(f"x-{uuid.uuid4().hex}", between.port)), threading.Barrier(4)
        won: list[int] = []

        def create(number: int) -> None:
            together.wait()
            if files.create("lease", str(number).encode()):
                won.append(number)

        threads = [threading.Thread(target=create, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert files.read("lease") == str(won[0]).encode()


@pytest.mark.slow
@pytest.mark.chaos
def test_storage_that_stays_away_is_told_and_ends_with_what_to_do(s3, caplog):
    with proxy(s3.port, each("refused")) as between:
        files = Files(s3.uri("x", between.port), Retry(first_s=0.01, most_tries=2))
        with pytest.raises(StorageAwayError, match=r"reading a of s3://bucket/x.* failed 2 times"):
            files.read("a")
    assert "trying again" in caplog.text


@pytest.mark.slow
@pytest.mark.chaos
def test_an_upload_that_is_cut_by_a_kill_is_never_seen(s3):
    """The process dies when its file is uploaded and the request that makes it appear is not."""
    last, go = threading.Event(), threading.Event()

    def plan(number: int, line: str):
        if "a.bin" in line and line.startswith(("POST", "PUT")):
            last.set()
            go.wait(60)
            return "refused"
        return "none"

    name = f"store-{uuid.uuid4().hex}"
    with proxy(s3.port, plan) as between, Worker(s3.uri(name, between.port)) as worker:
        assert worker.says()[0] == "working"
        worker.go()
        assert last.wait(60)
        worker.murder()
        go.set()
    store = Store(s3.uri(name))
    assert store.files.names("steps", recursive=True) == []
    record, found = store.once(IDENTITY, work, told=pytest.fail)
    assert not found
    assert store.faults(record.kind, record.address) == []


@pytest.mark.slow
@pytest.mark.chaos
def test_a_run_on_a_slow_and_failing_s3_ends_right(make_config, s3):
    here = make_config("name=here")
    with proxy(s3.port, now_and_then(0.1)) as between:
        there = make_config(
            f"store={s3.uri(f'run-{uuid.uuid4().hex}', between.port)}", "name=there"
        )
        ours = play(there)
        assert sum(fault != "none" for fault in between.faults) > 20
        between.plan = each("none")
        store = Store(there.store)
        assert all(not store.faults(kind, address) for kind, address, _ in store.steps())
        assert store.files.names("leases") == []
    theirs = play(here)
    assert addresses(ours) == addresses(theirs)
    assert [r.test for r in ours.rounds] == [r.test for r in theirs.rounds]


def work(folder: StepFolder) -> Outcome:
    return Outcome((folder.write("a.bin", b"content"),))
