"""How near labelled rows are to the classes, for networks that never saw them; see `Nearness`."""

import numpy as np
import pyarrow as pa

from orchestrator.jobs.decoded import Decoded
from orchestrator.store.record import FileEntry, Record
from orchestrator.store.store import StepFolder, Store
from trainables.nearness import Nearness
from trainables.neighbours import cosines_to, prototypes

NEARNESS, ANCHORS = "nearness.parquet", "anchors.parquet"


def nearness_in_fold(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, num_classes: int
) -> np.ndarray:
    """Cosines float32 [n, C] of held-out rows to the classes of the others.

    ``features`` [N, D] of all labelled rows are those of the student that saw the others only;
    ``held_out`` is bool [N]. A class that the student never saw is opposite to every row.
    """
    found = prototypes(features[~held_out], labels[~held_out], num_classes)
    near = cosines_to(found, features[held_out])
    return np.asarray(np.maximum(near, -1).astype(np.float32))


def write_nearness(
    folder: StepFolder, decoded: Decoded, cosines: np.ndarray, anchors: np.ndarray
) -> tuple[FileEntry, ...]:
    """Write cosines [N, C] of labelled rows and the directions of the classes [C, D]."""
    ids = pa.array(decoded.example_ids, pa.string())
    return (
        folder.write_table(NEARNESS, pa.table({"example_id": ids, "cosines": _lists(cosines)})),
        folder.write_table(ANCHORS, pa.table({"direction": _lists(anchors)})),
    )


def read_nearness(store: Store, record: Record) -> Nearness:
    """What `write_nearness` wrote, rows in the order of their ids."""
    near = store.read_table(record, NEARNESS).sort_by("example_id")
    return Nearness(_array(near["cosines"]), _array(store.read_table(record, ANCHORS)["direction"]))


def _lists(values: np.ndarray) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _array(column: pa.ChunkedArray) -> np.ndarray:
    whole = column.combine_chunks()
    flat = whole.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(-1, whole.type.list_size))
