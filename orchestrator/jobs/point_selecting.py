"""Select points: fit a rule on merged statistics of all shards, then apply it shard by shard.

Each point of a row is chosen on its own, by the selectors that classification has: to them a point
is a row whose class is the point's name.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import PointSelectJob
from orchestrator.jobs.selecting import merge_sketches, sketch_to_bytes
from orchestrator.jobs.shards import Over, Shard, shard_name
from orchestrator.store.store import Outcome, Store
from trainables import schemas
from trainables.landmarks.elements import chosen, elements, merged
from trainables.landmarks.tables import point_selection
from trainables.selectors.rules import Labelled, Outlook, Rule
from trainables.selectors.sketch import Sketch, sketch
from trainables.tasks.task import task_of


def run_point_selecting(job: PointSelectJob, over: Over) -> Outcome:
    """Fit the rule on the whole pool, then select from each of its shards."""
    rule = fit_point_rule(job, merge_sketches(over(partial(sketch_point_shards, job))))
    parts = over(partial(select_point_shards, job, rule))
    return gather_point_selection(job, rule, [shard for part in parts for shard in part])


def sketch_point_shards(job: PointSelectJob, fragments: Sequence[int]) -> bytes:
    """The merged sketch of the points of some shards of the prediction table, as bytes."""
    store, num = Store(job.store), job.task.num_names
    record = store.record("label", job.predictions)
    whole = Sketch(num, coarse=False)
    for i, fragment in enumerate(fragments):
        found = sketch(
            elements(store.read_table(record, shard_name(fragment)), job.ranking),
            pool_rows=record.counts["rows"] * num,
            seed=job.seed,
            num_classes=num,
        )
        whole = found if i == 0 else whole.merge(found)
    return sketch_to_bytes(whole)


def fit_point_rule(job: PointSelectJob, pool: Sketch) -> Rule:
    """The rule of the whole pool."""
    return job.selector.fit(pool, Labelled(np.zeros(job.task.num_names, np.int64)), job.seed)


def select_point_shards(job: PointSelectJob, rule: Rule, fragments: Sequence[int]) -> list[Shard]:
    """Select from some shards, point by point, and write the selection's shards."""
    store = Store(job.store)
    predicted = store.record("label", job.predictions)
    previous = store.record("select", job.previous) if job.previous is not None else None
    schema = point_selection(job.task.num_names)
    folder, shards = store.folder("select", job.address), []
    for fragment in fragments:
        name = shard_name(fragment)
        told = store.read_table(predicted, name)
        table = _chosen(job, rule, told, schema)
        if previous is not None:
            table = merged(store.read_table(previous, name), table, schema)
        table = schemas.conform(table, schema, f"selection of fragment {fragment}")
        names = task_of(job.task).accepted(table, told).names
        shards.append(
            Shard(
                fragment=fragment,
                file=folder.write_table(name, table),
                class_rows=tuple(np.bincount(names, minlength=job.task.num_names).tolist()),
            )
        )
    return shards


def _chosen(job: PointSelectJob, rule: Rule, told: pa.Table, schema: pa.Schema) -> pa.Table:
    seen = elements(told, job.ranking)
    weights = seen.confidence if job.weight == "confidence" else np.ones(len(seen), np.float32)
    return chosen(told, rule.accepts(seen) & (weights > 0), weights, schema)


def gather_point_selection(job: PointSelectJob, rule: Rule, shards: Sequence[Shard]) -> Outcome:
    """The outcome of a selecting step; ``accepted`` counts rows, ``class_rows`` points."""
    ordered = sorted(shards, key=lambda s: s.fragment)
    points = np.sum([s.class_rows for s in ordered], axis=0).tolist()
    predicted = Store(job.store).record("label", job.predictions).counts["class_rows"]
    starved = [
        k for k, (got, seen) in enumerate(zip(points, predicted, strict=True)) if seen and not got
    ]
    counts = {
        "accepted": sum(s.file.rows or 0 for s in ordered),
        "class_rows": points,
        "starved_classes": starved,
    }
    outlook = Outlook(Dataset(job.data).labelled_rows, sum(predicted), least_confidence=0)
    metrics = {
        "least": list(rule.least),
        "accepts_all": job.selector.accepts_all(outlook),
    }
    return Outcome(tuple(s.file for s in ordered), counts, metrics)
