"""Laws of the store: a step is computed once, committed whole, and verified when it is read."""

import dataclasses
import threading
from collections.abc import Callable

import pyarrow as pa
import pytest

from orchestrator.errors import LostWorkError, StoreError
from orchestrator.store.record import FileEntry
from orchestrator.store.store import Identity, Outcome, StepFolder, Store
from tests.orchestrator.store.worker import IDENTITY, Worker

OTHER = dataclasses.replace(IDENTITY, seed=1)
TABLE = pa.table({"example_id": ["a", "b"], "weight": pa.array([1.0, 0.5], pa.float32())})


@pytest.fixture
def store(root) -> Store:
    return Store(root)


def work(folder: StepFolder) -> Outcome:
    files = (folder.write("a.bin", b"content"), folder.write_table("part.parquet", TABLE))
    return Outcome(files, {"rows": 2}, {"accuracy": 0.5})


def fail(folder: StepFolder) -> Outcome:
    folder.write("a.bin", b"content")
    folder.note("checkpoint", b"step 7")
    raise KeyError("stop")


def never(folder: StepFolder) -> Outcome:
    raise AssertionError(f"{folder.prefix} was computed again")


def silent(text: str) -> None:
    raise AssertionError(f"nobody should be waited for: {text}")


def compute(store: Store, identity: Identity = IDENTITY):
    return store.once(identity, work, told=silent)[0]


def at(identity: Identity, name: str) -> str:
    return f"steps/{identity.kind}/{identity.address}/{name}"


def flip(store: Store, identity: Identity, name: str) -> None:
    """Change one bit of a step's file, keeping its size."""
    content = bytearray(store.files.read(at(identity, name)))
    content[len(content) // 2] ^= 1
    store.files.write(at(identity, name), bytes(content))


def test_a_step_is_computed_once_and_then_found(root, store):
    record, found = store.once(IDENTITY, work, told=silent)
    assert not found
    again, found = Store(root).once(IDENTITY, never, told=silent)
    assert found
    assert again == record


def test_a_record_holds_all_that_the_step_was_asked_and_gave(store):
    record = compute(store)
    assert (record.kind, record.address) == ("train", IDENTITY.address)
    assert record.identity == IDENTITY.plain()
    assert [f.name for f in record.files] == ["a.bin", "part.parquet"]
    assert (record.counts, record.metrics) == ({"rows": 2}, {"accuracy": 0.5})
    assert record.versions["python"]
    assert store.record("train", IDENTITY.address) == record


def test_files_and_tables_are_read_back(store):
    record = compute(store)
    assert store.read(record, "a.bin") == b"content"
    assert store.read_table(record, "part.parquet").equals(TABLE)


def test_the_same_rows_give_the_same_bytes(store):
    one, other = compute(store), compute(store, OTHER)
    assert one.files == other.files


def test_work_that_raises_leaves_no_step_and_no_lease(store):
    with pytest.raises(KeyError):
        store.once(IDENTITY, fail, told=silent)
    assert not store.has("train", IDENTITY.address)
    assert store.files.names("leases") == []
    with pytest.raises(StoreError, match=f"has no train step {IDENTITY.address}"):
        store.record("train", IDENTITY.address)


def test_notes_of_unfinished_work_are_kept_for_the_next_attempt_and_gone_after_it(store):
    folder = store.folder("train", IDENTITY.address)
    with pytest.raises(KeyError):
        store.once(IDENTITY, fail, told=silent)
    assert folder.noted("checkpoint") == b"step 7"
    assert folder.noted("none") is None
    compute(store)
    assert folder.noted("checkpoint") is None


def test_a_file_of_an_earlier_attempt_is_intact_only_byte_for_byte(store):
    folder = store.folder("train", IDENTITY.address)
    entry = folder.write("a.bin", b"content")
    assert folder.intact(entry)
    flip(store, IDENTITY, "a.bin")
    assert not folder.intact(entry)
    store.files.delete(at(IDENTITY, "a.bin"))
    assert not folder.intact(entry)


@pytest.mark.parametrize("num_bytes", [7, 8])
def test_a_step_whose_files_are_not_all_there_is_not_committed(store, num_bytes):
    def lose(folder: StepFolder) -> Outcome:
        if num_bytes == 8:
            folder.write("lost.bin", b"content")
        return Outcome((FileEntry(name="lost.bin", num_bytes=num_bytes, sha256="0" * 64),))

    with pytest.raises(StoreError, match=r"lost lost\.bin"):
        store.once(IDENTITY, lose, told=silent)
    assert not store.has("train", IDENTITY.address)


@pytest.mark.parametrize("name", ["a.bin", "part.parquet"])
def test_a_flipped_bit_is_found_on_reading_and_says_what_to_do(root, store, name):
    record = compute(store)
    flip(store, IDENTITY, name)
    with pytest.raises(StoreError) as error:
        Store(root).read(record, name)
    assert f"{name} differs from its record" in str(error.value)
    assert "selftrain store verify --drop" in str(error.value)
    assert "the same command again" in str(error.value)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_in_a_record_is_found_on_reading(store, share):
    compute(store)
    content = bytearray(store.files.read(at(IDENTITY, "record.json")))
    content[int(share * len(content))] ^= 1
    store.files.write(at(IDENTITY, "record.json"), bytes(content))
    with pytest.raises(StoreError, match=r"record\.json (is no record|was damaged)"):
        store.record("train", IDENTITY.address)


def test_a_damaged_note_is_told_and_not_used(store, caplog):
    folder = store.folder("train", IDENTITY.address)
    folder.note("checkpoint", b"step 7")
    name = f"{folder.work}/checkpoint"
    content = bytearray(store.files.read(name))
    content[2] ^= 1
    store.files.write(name, bytes(content))
    assert folder.noted("checkpoint") is None
    assert f"{name} of the store at {store.root} was damaged" in caplog.text
    store.files.write(name, b"cut")
    assert folder.noted("checkpoint") is None


def test_a_process_that_was_overtaken_can_not_change_a_finished_step(store):
    record = compute(store)
    folder = store.folder("train", IDENTITY.address)
    with pytest.raises(LostWorkError, match="was finished by another process"):
        folder.write("a.bin", b"changed")
    assert store.read(record, "a.bin") == b"content"


def test_a_missing_file_is_found_on_reading(store):
    record = compute(store)
    store.files.delete(at(IDENTITY, "a.bin"))
    with pytest.raises(StoreError, match=r"a\.bin is missing .*store verify --drop"):
        store.read(record, "a.bin")
    with pytest.raises(StoreError, match="has no file 'other'"):
        store.read(record, "other")


def test_a_record_that_can_not_be_read_says_what_to_do(store):
    compute(store)
    store.files.write(at(IDENTITY, "record.json"), b'{"address": "x"}')
    with pytest.raises(StoreError, match=r"record\.json is no record .*store verify --drop"):
        store.record("train", IDENTITY.address)


def test_a_whole_step_has_no_faults(store):
    compute(store)
    assert store.faults("train", IDENTITY.address) == []


def test_every_fault_of_a_step_is_found_even_after_it_was_read(store):
    record = compute(store)
    store.read(record, "a.bin")
    flip(store, IDENTITY, "a.bin")
    store.files.delete(at(IDENTITY, "part.parquet"))
    found = store.faults("train", IDENTITY.address)
    assert len(found) == 2
    assert "a.bin differs from its record" in found[0]
    assert "part.parquet is missing" in found[1]


def test_a_record_under_an_address_that_is_not_its_identitys_is_found(store):
    record = compute(store)
    changed = record.model_copy(update={"identity": OTHER.plain(), "check": ""})
    store.files.write(at(IDENTITY, "record.json"), changed.model_dump_json().encode())
    (fault,) = store.faults("train", IDENTITY.address)
    assert "the record's identity has another address" in fault


def test_steps_lists_finished_and_unfinished_ones(store):
    compute(store)
    store.folder("label", "f" * 24).write("part.bin", b"half")
    assert sorted(store.steps()) == [
        ("label", "f" * 24, False),
        ("train", IDENTITY.address, True),
    ]


def test_leftovers_are_what_unfinished_work_left(store):
    compute(store)
    assert store.leftovers() == []
    with pytest.raises(KeyError):
        store.once(OTHER, fail, told=silent)
    assert store.leftovers() == [f"steps/train/{OTHER.address}", f"work/train-{OTHER.address}"]


def test_a_lease_beside_a_finished_step_is_a_leftover_whoever_held_it(store):
    compute(store)
    lease = f"leases/train-{IDENTITY.address}.json"
    store.files.write(lease, b'{"host": "another", "pid": 1}')
    store.folder("train", IDENTITY.address).note("half", b"half")
    assert store.leftovers() == [f"work/train-{IDENTITY.address}", lease]


def test_work_in_progress_is_no_leftover(store):
    seen: list[list[str]] = []

    def look(folder: StepFolder) -> Outcome:
        outcome = work(folder)
        folder.note("half", b"half")
        seen.append(store.leftovers())
        return outcome

    store.once(IDENTITY, look, told=silent)
    assert seen == [[]]


def test_a_dropped_step_is_gone_and_can_be_computed_anew(store):
    compute(store)
    store.drop("train", IDENTITY.address)
    assert list(store.steps()) == []
    assert store.files.names("steps", recursive=True) == []
    assert compute(store).address == IDENTITY.address


def test_a_store_can_be_tried_without_leaving_a_trace(store):
    store.check_writable()
    assert store.files.names("", recursive=True) == []


def test_a_store_that_can_not_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="can't be written"):
        Store(tmp_path / "file").check_writable()


def test_every_part_of_an_identity_is_in_its_address():
    changes = {"kind": "label", "code": 2, "reads": {"rate": 0.2}, "inputs": {}, "seed": 1}
    assert set(changes) == {f.name for f in dataclasses.fields(Identity)}
    found = {dataclasses.replace(IDENTITY, **{name: v}).address for name, v in changes.items()}
    assert len(found | {IDENTITY.address}) == len(changes) + 1


def test_of_two_threads_that_want_a_step_one_works_and_the_other_reads(store):
    working, go, waiting = threading.Event(), threading.Event(), threading.Event()
    told: list[str] = []
    found: dict[str, bool] = {}

    def slow(folder: StepFolder) -> Outcome:
        working.set()
        assert go.wait(30)
        return work(folder)

    def want(name: str, do: Callable[[StepFolder], Outcome]) -> None:
        found[name] = store.once(IDENTITY, do, told=hear)[1]

    def hear(text: str) -> None:
        told.append(text)
        waiting.set()

    first = threading.Thread(target=want, args=("first", slow))
    first.start()
    assert working.wait(30)
    second = threading.Thread(target=want, args=("second", never))
    second.start()
    assert waiting.wait(30)
    go.set()
    first.join(30)
    second.join(30)
    assert found == {"first": False, "second": True}
    assert len(told) == 1


def test_of_two_processes_that_want_a_step_one_works_and_the_other_reads(tmp_path):
    with Worker(tmp_path) as one, Worker(tmp_path) as other:
        said = {one: one.says(), other: other.says()}
        worker, waiter = (one, other) if said[one][0] == "working" else (other, one)
        assert said[worker] == ("working", "")
        assert said[waiter][0] == "told"
        assert f"is being worked on by process {worker.pid} on " in said[waiter][1]
        worker.go()
        assert (worker.says()[0], waiter.says()[0]) == ("computed", "found")


def test_a_step_goes_on_at_once_where_a_killed_process_left_it(tmp_path):
    with Worker(tmp_path) as worker:
        assert worker.says()[0] == "working"
        worker.murder()
    store = Store(tmp_path)
    assert store.folder("train", IDENTITY.address).noted("half") == b"half"
    record, found = store.once(IDENTITY, work, told=silent)
    assert not found
    assert store.faults(record.kind, record.address) == []
    assert store.files.names("leases") == []


def test_what_a_killed_process_left_is_a_leftover(tmp_path):
    with Worker(tmp_path) as worker:
        assert worker.says()[0] == "working"
        assert Store(tmp_path).leftovers() == []
        worker.murder()
    assert Store(tmp_path).leftovers() == [f"work/train-{IDENTITY.address}"]
