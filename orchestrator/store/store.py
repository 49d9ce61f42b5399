"""The store: every step is computed once, committed whole, and verified when it is read.

Layout below the root, on a local folder, NFS or an object store:

    steps/KIND/ADDRESS/...           the files of a step
    steps/KIND/ADDRESS/record.json   written last: the step exists if and only if this does
    work/KIND-ADDRESS/...            checkpoints and notes of unfinished work, kept over crashes
    leases/KIND-ADDRESS.json         who works on it now
"""

import contextlib
import hashlib
import io
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from orchestrator.address import digest
from orchestrator.errors import LostWorkError, StorageFullError, StoreError
from orchestrator.store.files import RETRY, Files
from orchestrator.store.lease import Lease, holder_of, is_dead
from orchestrator.store.record import FileEntry, Record, versions
from orchestrator.store.retry import Retry

log = logging.getLogger(__name__)
RECORD = "record.json"
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """Everything that decides a step's result; its digest is the step's address."""

    kind: str
    """Kind of the step."""
    code: int
    """Version of the code of this kind; raised when the same inputs give another result."""
    reads: Mapping[str, Any]
    """The settings that this kind reads, resolved to plain numbers."""
    inputs: Mapping[str, str]
    """Addresses and digests of what it reads, by name."""
    seed: int = 0
    """Seed of the step; 0 where nothing is drawn."""

    def plain(self) -> dict[str, Any]:
        """As plain values, which is what is hashed."""
        return {
            "kind": self.kind,
            "code": self.code,
            "reads": dict(self.reads),
            "inputs": dict(self.inputs),
            "seed": self.seed,
        }

    @property
    def address(self) -> str:
        """The step's address."""
        return digest(self.plain())


@dataclass(frozen=True)
class Outcome:
    """What a step's work returns for its record."""

    files: tuple[FileEntry, ...]
    counts: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepFolder:
    """Where one step writes: its files, and notes that survive a crash of the work."""

    files: Files
    kind: str
    address: str

    @property
    def prefix(self) -> str:
        return f"steps/{self.kind}/{self.address}"

    @property
    def work(self) -> str:
        return f"work/{self.kind}-{self.address}"

    def write(self, name: str, content: bytes, rows: int | None = None) -> FileEntry:
        """Write one of the step's files whole; return its entry.

        Raises:
            LostWorkError: The step is finished: another process took it over from this one.
        """
        if self.files.exists(f"{self.prefix}/{RECORD}"):
            raise LostWorkError(
                f"step {self.kind} {self.address[:12]} was finished by another process while this "
                "one slept; start the same command again: it finds the result"
            )
        self.files.write(f"{self.prefix}/{name}", content)
        return entry_of(name, content, rows)

    def write_table(self, name: str, table: pa.Table) -> FileEntry:
        """Write a table as Parquet; the same rows give the same bytes."""
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", row_group_size=1 << 16)
        return self.write(name, sink.getvalue(), table.num_rows)

    def note(self, name: str, content: bytes) -> None:
        """Keep something for whoever goes on after a crash; gone once the step is committed.

        Its digest is written behind it.
        """
        self.files.write(f"{self.work}/{name}", content + hashlib.sha256(content).digest())

    def noted(self, name: str) -> bytes | None:
        """What was kept under this name, or None: the work starts without it.

        What differs from its digest is not used; this is told.
        """
        whole = self.files.read_or_none(f"{self.work}/{name}")
        if whole is None:
            return None
        content, kept = whole[:-DIGEST_BYTES], whole[-DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != kept:
            log.warning(
                "%s/%s of the store at %s was damaged since it was written and is not used: "
                "that work is done again",
                self.work,
                name,
                self.files.root,
            )
            return None
        return content

    def intact(self, entry: FileEntry) -> bool:
        """Whether a file that an earlier attempt wrote is still there, byte for byte."""
        try:
            content = self.files.read(f"{self.prefix}/{entry.name}")
        except FileNotFoundError:
            return False
        return entry_of(entry.name, content, entry.rows) == entry


def entry_of(name: str, content: bytes, rows: int | None = None) -> FileEntry:
    """The entry of a file with this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    return FileEntry(name=name, num_bytes=len(content), sha256=sha256, rows=rows)


class Store:
    """Addressed steps below one root."""

    def __init__(self, root: str | Path, retry: Retry = RETRY) -> None:
        self.files = Files(root, retry)
        self.root = self.files.root
        self._verified: set[tuple[str, str]] = set()

    def folder(self, kind: str, address: str) -> StepFolder:
        """Where a step writes or has written."""
        return StepFolder(self.files, kind, address)

    def has(self, kind: str, address: str) -> bool:
        """Whether the step is finished."""
        return self.files.exists(f"steps/{kind}/{address}/{RECORD}")

    def record(self, kind: str, address: str) -> Record:
        """The record of a finished step.

        Raises:
            StoreError: There is none, or it can't be read.
        """
        name = f"steps/{kind}/{address}/{RECORD}"
        try:
            record = Record.model_validate_json(self.files.read(name))
        except FileNotFoundError as error:
            raise StoreError(f"the store at {self.root} has no {kind} step {address}") from error
        except ValidationError as error:
            raise StoreError(_mend(self.root, name, "is no record")) from error
        if record.check and record.check != check_of(record):
            raise StoreError(_mend(self.root, name, "was damaged since it was written"))
        return record

    def once(
        self,
        identity: Identity,
        work: Callable[[StepFolder], Outcome],
        *,
        told: Callable[[str], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> tuple[Record, bool]:
        """The step's record and whether it came from the store; computed here if nobody has.

        Of several processes that want the step, one works and the others wait and read. ``told``
        hears who is waited for; ``stopping`` ends the waiting.

        Raises:
            Interrupted: Asked to stop while another process works on the step.
            LostWorkError: This process lost its lease while it worked; another has the step now.
        """
        kind, address = identity.kind, identity.address
        if self.has(kind, address):
            return self.record(kind, address), True
        lease = Lease(
            self.files,
            f"leases/{kind}-{address}.json",
            what=f"step {kind} {address[:12]}",
            done=lambda: self.has(kind, address),
            told=told,
            stopping=stopping,
        )
        with lease:
            if self.has(kind, address):
                return self.record(kind, address), True
            folder = self.folder(kind, address)
            began = time.perf_counter()
            outcome = work(folder)
            if not lease.ours():
                raise LostWorkError(
                    f"step {kind} {address[:12]} was taken over while this process slept; "
                    "start the same command again: it waits for the other, or finds its result"
                )
            return self._commit(identity, folder, outcome, time.perf_counter() - began), False

    def _commit(
        self, identity: Identity, folder: StepFolder, outcome: Outcome, seconds: float
    ) -> Record:
        missing = [
            e.name
            for e in outcome.files
            if not self.files.exists(path := f"{folder.prefix}/{e.name}")
            or self.files.size(path) != e.num_bytes
        ]
        if missing:
            raise StoreError(f"step {folder.kind} {folder.address} lost {', '.join(missing)}")
        record = Record(
            address=folder.address,
            kind=folder.kind,
            identity=identity.plain(),
            files=outcome.files,
            counts=dict(outcome.counts),
            metrics=dict(outcome.metrics),
            seconds=round(seconds, 3),
            versions=dict(versions()),
            host=socket.gethostname(),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        record = record.model_copy(update={"check": check_of(record)})
        content = record.model_dump_json(indent=1).encode()
        self.files.write(f"{folder.prefix}/{RECORD}", content)
        self.files.delete_folder(folder.work)
        return record

    def read(self, record: Record, name: str) -> bytes:
        """A file of a finished step, verified against its record.

        Raises:
            StoreError: The file is missing or its content is not what was committed.
        """
        path = f"steps/{record.kind}/{record.address}/{name}"
        entry = next((e for e in record.files if e.name == name), None)
        if entry is None:
            raise StoreError(f"step {record.kind} {record.address} has no file {name!r}")
        try:
            content = self.files.read(path)
        except FileNotFoundError as error:
            raise StoreError(_mend(self.root, path, "is missing")) from error
        if (path, entry.sha256) not in self._verified:
            if entry_of(name, content, entry.rows) != entry:
                raise StoreError(_mend(self.root, path, "differs from its record"))
            self._verified.add((path, entry.sha256))
        return content

    def read_table(self, record: Record, name: str) -> pa.Table:
        """A table of a finished step, verified."""
        return pq.read_table(pa.BufferReader(self.read(record, name)))

    def steps(self) -> Iterator[tuple[str, str, bool]]:
        """Every step folder: kind, address, and whether it is finished."""
        for kind in self.files.folders("steps"):
            for folder in self.files.folders(kind):
                _, name, address = folder.rsplit("/", 2)
                yield name, address, self.has(name, address)

    def faults(self, kind: str, address: str) -> list[str]:
        """What is wrong with a finished step, one line each; empty if it is whole."""
        try:
            record = self.record(kind, address)
        except StoreError as error:
            return [str(error)]
        found = []
        if digest(record.identity) != address:
            found.append(f"{kind} {address}: the record's identity has another address")
        for entry in record.files:
            self._verified.discard((f"steps/{kind}/{address}/{entry.name}", entry.sha256))
            try:
                self.read(record, entry.name)
            except StoreError as error:
                found.append(str(error))
        return found

    def drop(self, kind: str, address: str) -> None:
        """Delete a step: the record first, so that it is never seen half-there."""
        folder = self.folder(kind, address)
        self.files.delete(f"{folder.prefix}/{RECORD}")
        self.files.delete_folder(folder.prefix)
        self.files.delete_folder(folder.work)

    def leftovers(self) -> list[str]:
        """Unfinished step folders and work folders that nobody holds a lease on, and leases.

        A lease whose holder ran on this machine and is dead is held by nobody. Whoever died between
        the record of a step and the end of its lease left a lease that nobody waits for.
        """
        steps = list(self.steps())
        finished = {f"{kind}-{address}" for kind, address, done in steps if done}
        leases = self.files.names("leases")
        useless = [name for name in leases if Path(name).stem in finished]
        held = (name for name in leases if name not in useless and self._is_held(name))
        busy = {Path(name).stem for name in held}
        unfinished = [
            f"steps/{kind}/{address}"
            for kind, address, done in steps
            if not done and f"{kind}-{address}" not in busy
        ]
        work = [w for w in self.files.folders("work") if w.removeprefix("work/") not in busy]
        return unfinished + work + useless

    def _is_held(self, lease: str) -> bool:
        try:
            return not is_dead(holder_of(self.files.read(lease)))
        except FileNotFoundError:
            return False

    def check_writable(self) -> None:
        """Write, read and delete a small file.

        Raises:
            StoreError: The store can't be written.
            StorageFullError: There is no room in it.
        """
        name = f".probe-{socket.gethostname()}-{time.time_ns()}"
        try:
            self.files.write(name, b"probe")
            if self.files.read(name) != b"probe":
                raise StoreError(f"the store at {self.root} gives back other bytes than were put")
        except StorageFullError:
            raise
        except OSError as error:
            raise StoreError(f"the store at {self.root} can't be written: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                self.files.delete(name)


def check_of(record: Record) -> str:
    """Digest of everything in a record but the digest itself."""
    return hashlib.sha256(dumps(record.model_dump(mode="json", exclude={"check"}))).hexdigest()


def _mend(root: str, path: str, what: str) -> str:
    return (
        f"{path} {what} (store {root}); run 'selftrain store verify --drop' to remove broken "
        "steps, and the same command again to compute them anew"
    )


def dumps(value: Any) -> bytes:
    """JSON bytes of a note or a small file; the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, indent=1).encode()
