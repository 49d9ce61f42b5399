"""The store of addressed steps: files first, the record last, leases between processes."""

from orchestrator.store.lease import Lease
from orchestrator.store.record import FileEntry, Record
from orchestrator.store.store import StepFolder, Store

__all__ = ["FileEntry", "Lease", "Record", "StepFolder", "Store"]
