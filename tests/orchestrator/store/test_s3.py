"""The store on a real S3 server: commits, leases between processes, kills, whole runs."""

import os
import signal
import uuid

import pytest

from orchestrator.store.store import Outcome, StepFolder, Store
from tests.orchestrator.helpers import addresses, play
from tests.orchestrator.store.worker import IDENTITY, Worker


@pytest.fixture
def root(s3) -> str:
    return s3.uri(f"store-{uuid.uuid4().hex}")


def work(folder: StepFolder) -> Outcome:
    return Outcome((folder.write("a.bin", b"content"),))


def silent(text: str) -> None:
    raise AssertionError(f"nobody should be waited for: {text}")


def test_a_step_is_committed_listed_read_and_dropped(root):
    store = Store(root)
    record, found = store.once(IDENTITY, work, told=silent)
    assert not found
    assert Store(root).read(record, "a.bin") == b"content"
    assert list(store.steps()) == [("train", IDENTITY.address, True)]
    assert store.faults("train", IDENTITY.address) == []
    assert store.files.names("leases") == store.files.names("work", recursive=True) == []
    store.drop("train", IDENTITY.address)
    assert list(store.steps()) == []


def test_a_store_is_tried_without_leaving_a_trace(root):
    Store(root).check_writable()
    assert Store(root).files.names("", recursive=True) == []
    assert Store(root).files.hidden(".") == []


def test_of_two_processes_that_want_a_step_one_works_and_the_other_reads(root):
    with Worker(root) as one, Worker(root) as other:
        said = {one: one.says(), other: other.says()}
        worker, waiter = (one, other) if said[one][0] == "working" else (other, one)
        assert said[worker] == ("working", "")
        assert f"is being worked on by process {worker.pid} on " in said[waiter][1]
        worker.go()
        assert (worker.says()[0], waiter.says()[0]) == ("computed", "found")


@pytest.mark.slow
def test_what_a_killed_process_left_is_a_leftover_and_the_next_one_goes_on(root):
    with Worker(root) as worker:
        assert worker.says()[0] == "working"
        worker.murder()
    store = Store(root)
    assert store.leftovers() == [f"work/train-{IDENTITY.address}"]
    assert store.folder("train", IDENTITY.address).noted("half") == b"half"
    record, found = store.once(IDENTITY, work, told=silent)
    assert not found
    assert store.faults(record.kind, record.address) == []
    assert store.files.names("leases") == []


@pytest.mark.slow
def test_a_process_that_slept_longer_than_its_lease_does_not_commit(root, monkeypatch):
    with Worker(root) as sleeper:
        assert sleeper.says()[0] == "working"
        os.kill(sleeper.pid, signal.SIGSTOP)
        store = Store(root)
        (lease,) = store.files.names("leases")
        assert store.files.discard(
            lease, store.files.read(lease)
        )  # as a waiter does after its time
        record, found = store.once(IDENTITY, work, told=silent)
        assert not found
        os.kill(sleeper.pid, signal.SIGCONT)
        sleeper.go()
        assert sleeper.ends() != 0
    assert store.record("train", IDENTITY.address) == record
    assert store.faults("train", IDENTITY.address) == []


@pytest.mark.slow
def test_a_run_on_s3_has_the_addresses_and_scores_of_one_on_a_local_store(make_config, s3):
    there = make_config(f"store={s3.uri(f'run-{uuid.uuid4().hex}')}", "name=there")
    here = make_config("name=here")
    ours, theirs = play(there), play(here)
    assert addresses(ours) == addresses(theirs)
    assert [r.test for r in ours.rounds] == [r.test for r in theirs.rounds]
    store, local = Store(there.store), Store(here.store)
    for kind, address, done in local.steps():
        assert done
        assert store.record(kind, address).files == local.record(kind, address).files
        assert store.faults(kind, address) == []
    again = play(there)
    assert all(step.from_store for r in again.rounds for step in r.steps.values())
