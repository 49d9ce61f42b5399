"""Select: calibrate, fit a rule on merged statistics of all shards, then apply it shard by shard.

No process ever holds the whole pool: a shard becomes a sketch, sketches merge, the rule is a few
numbers, and applying it is local to a row.
"""

import io
import json
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import SelectJob
from orchestrator.store.record import FileEntry
from orchestrator.store.store import Outcome, Store
from trainables import schemas
from trainables.beliefs import Beliefs
from trainables.calibrators import Tilt
from trainables.pool_mean import NOTHING, PoolMean, pool_mean
from trainables.selectors.rules import Labelled, Rule
from trainables.selectors.sketch import Sketch, sketch
from trainables.spec import Spec
from trainables.weighting import Weights


class SelectionShard(Spec):
    """What selecting from one shard gave."""

    fragment: int
    """Number of the pool fragment."""
    file: FileEntry
    """The shard of the selection."""
    class_rows: tuple[int, ...]
    """Accepted rows by pseudo-class."""


def shard_name(fragment: int) -> str:
    """Name of the shard of a fragment, in predictions and selections alike."""
    return f"part-{fragment:05d}.parquet"


def calibrate(job: SelectJob, over: Callable[[Callable[[Sequence[int]], Any]], list[Any]]) -> Tilt:
    """The chain of calibrators, fitted one after the other; ``over`` maps over groups of shards."""
    tilt, labelled = Tilt(), labelled_of(job, Tilt()) if job.calibrators else None
    for calibrator in job.calibrators:
        assert labelled is not None  # noqa: S101 - narrowing
        mean = NOTHING
        if calibrator.needs_pool:
            mean = reduce(PoolMean.merge, over(partial(mean_shards, job, tilt)), mean)
        tilt = tilt.then(calibrator.fit(mean, tilt, labelled))
    return tilt


def mean_shards(job: SelectJob, tilt: Tilt, fragments: Sequence[int]) -> PoolMean:
    """The mean of the tilted predictions of some shards."""
    store = Store(job.store)
    record = store.record("label", job.predictions)
    tables = (store.read_table(record, shard_name(fragment)) for fragment in fragments)
    return reduce(
        PoolMean.merge, (pool_mean(tilt.of(Beliefs.of_table(table))) for table in tables), NOTHING
    )


def sketch_shards(job: SelectJob, tilt: Tilt, fragments: Sequence[int]) -> bytes:
    """The merged sketch of some shards of the prediction table, tilted, as bytes."""
    store = Store(job.store)
    record = store.record("label", job.predictions)
    merged = Sketch(job.num_classes, coarse=False)
    for i, fragment in enumerate(fragments):
        beliefs = tilt.of(Beliefs.of_table(store.read_table(record, shard_name(fragment))))
        found = sketch(beliefs, pool_rows=record.counts["rows"], seed=job.seed)
        merged = found if i == 0 else merged.merge(found)
    return sketch_to_bytes(merged)


def merge_sketches(parts: Sequence[bytes]) -> Sketch:
    """One sketch from the bytes of several."""
    found = [sketch_from_bytes(part) for part in parts]
    while len(found) > 1:  # in pairs, so that no key is sorted more than log(parts) times
        pairs = [found[i : i + 2] for i in range(0, len(found), 2)]
        found = [pair[0].merge(pair[1]) if len(pair) == 2 else pair[0] for pair in pairs]
    return found[0]


def fit_rule(job: SelectJob, tilt: Tilt, merged: Sketch) -> Rule:
    """The selector's rule for the whole pool."""
    return job.selector.fit(merged, labelled_of(job, tilt), job.seed)


def labelled_of(job: SelectJob, tilt: Tilt) -> Labelled:
    """What may be known of the labelled rows, with their predictions tilted."""
    store, data = Store(job.store), Dataset(job.data)
    labelled = data.table(data.manifest.labelled, ["example_id", "label"]).sort_by("example_id")
    labels = labelled["label"].to_numpy().astype(np.int64)
    beliefs = None
    if job.out_of_fold is not None:
        record = store.record("cross_label", job.out_of_fold)
        beliefs = tilt.of(Beliefs.of_table(store.read_table(record, "out_of_fold.parquet")))
    return Labelled(np.bincount(labels, minlength=job.num_classes), beliefs, labels)


def apply_rule(
    job: SelectJob, tilt: Tilt, rule: Rule, weights: Weights, fragments: Sequence[int]
) -> list[SelectionShard]:
    """Select from some shards, row by row, and write the selection's shards."""
    store = Store(job.store)
    predicted = store.record("label", job.predictions)
    previous = store.record("select", job.previous) if job.previous is not None else None
    schema = schemas.selection(job.num_classes, soft=job.targets.kind == "soft")
    folder = store.folder("select", job.address)
    shards = []
    for fragment in fragments:
        name = shard_name(fragment)
        told = Beliefs.of_table(store.read_table(predicted, name))
        seen = tilt.of(told)
        source = seen if job.targets.reads == "calibrated" else told
        at = np.flatnonzero(rule.accepts(seen))
        weight = weights.of(seen.labels[at], seen.confidence[at])
        table = _rows(job, source, weight, at, schema)
        if previous is not None:
            table = _with_kept(table, store.read_table(previous, name), schema)
        table = schemas.conform(table, schema, f"selection of fragment {fragment}")
        counts = np.bincount(table["label"].to_numpy(), minlength=job.num_classes)
        file = folder.write_table(name, table)
        shards.append(
            SelectionShard(fragment=fragment, file=file, class_rows=tuple(counts.tolist()))
        )
    return shards


def gather_selection(
    job: SelectJob, tilt: Tilt, rule: Rule, shards: Sequence[SelectionShard]
) -> Outcome:
    """The outcome of a selecting step."""
    ordered = sorted(shards, key=lambda s: s.fragment)
    class_rows = np.sum([s.class_rows for s in ordered], axis=0).tolist()
    predicted = Store(job.store).record("label", job.predictions).counts["class_rows"]
    starved = [
        k
        for k, (got, seen) in enumerate(zip(class_rows, predicted, strict=True))
        if seen and not got
    ]
    counts = {"accepted": sum(class_rows), "class_rows": class_rows, "starved_classes": starved}
    metrics: dict[str, Any] = {"least": list(rule.least)}
    if job.calibrators:
        metrics |= {"power": tilt.power, "shift": list(tilt.shift)}
    return Outcome(tuple(s.file for s in ordered), counts, metrics)


def _rows(
    job: SelectJob, beliefs: Beliefs, weight: np.ndarray, at: np.ndarray, schema: pa.Schema
) -> pa.Table:
    """Rows of the selection: labels and targets of the beliefs at these places."""
    labels = beliefs.labels[at].astype(np.int32)
    target: pa.Array = pa.array(labels)
    if job.targets.kind == "soft":
        logs = beliefs.log_probs[at].astype(np.float64) / job.targets.temperature
        probs = np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))
        flat = pa.array(probs.astype(np.float32).ravel())
        target = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("target").type)
    ids = pa.array([beliefs.example_ids[i] for i in at], pa.string())
    return pa.table([ids, pa.array(labels), target, pa.array(weight)], schema=schema)


def _with_kept(new: pa.Table, kept: pa.Table, schema: pa.Schema) -> pa.Table:
    """Kept rows with their first label, then new rows that were not among them, by id."""
    known = set(kept["example_id"].to_pylist())
    fresh = pa.array([name not in known for name in new["example_id"].to_pylist()], pa.bool_())
    both = pa.concat_tables([kept.cast(schema), new.filter(fresh)])
    return both.sort_by("example_id").replace_schema_metadata(schema.metadata)


def sketch_to_bytes(value: Sketch) -> bytes:
    """A sketch as an Arrow table of (label, key, count)."""
    labels = sorted(value.keys)
    width = {k: len(value.keys[k]) for k in labels}
    column = np.concatenate(
        [np.full(width[k], k, np.int32) for k in labels] or [np.zeros(0, np.int32)]
    )
    keys = np.concatenate([value.keys[k] for k in labels] or [np.zeros(0, np.uint64)])
    counts = np.concatenate([value.counts[k] for k in labels] or [np.zeros(0, np.int64)])
    table = pa.table({"label": column, "key": keys, "count": counts})
    meta = {
        "num_classes": str(value.num_classes),
        "coarse": str(int(value.coarse)),
        "rows": str(value.mean.rows),
        "mass": json.dumps(value.mean.mass.tolist()),
    }
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(meta), sink)
    return sink.getvalue()


def sketch_from_bytes(content: bytes) -> Sketch:
    """The sketch that `sketch_to_bytes` wrote."""
    table = pq.read_table(pa.BufferReader(content))
    meta = table.schema.metadata
    label, keys, counts = (table[n].to_numpy() for n in ("label", "key", "count"))
    found = np.unique(label).tolist()
    return Sketch(
        int(meta[b"num_classes"]),
        coarse=bool(int(meta[b"coarse"])),
        keys={k: keys[label == k] for k in found},
        counts={k: counts[label == k] for k in found},
        mean=PoolMean(int(meta[b"rows"]), np.array(json.loads(meta[b"mass"]), np.int64)),
    )
