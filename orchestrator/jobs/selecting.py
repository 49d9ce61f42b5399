"""Select: calibrate, fit a rule on merged statistics of all shards, then apply it shard by shard.

No process ever holds the whole pool: a shard becomes a sketch, sketches merge, the rule is a few
numbers, and applying it is local to a row.
"""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import entr

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import SelectJob
from orchestrator.jobs.nearness import read_nearness
from orchestrator.jobs.shards import Over, Shard, shard_name
from orchestrator.jobs.training_rows import OUT_OF_FOLD
from orchestrator.store.record import Record
from orchestrator.store.store import Outcome, Store
from trainables import schemas
from trainables.beliefs import Beliefs
from trainables.calibrators import FromFeatures, fit_chain
from trainables.filters import filtered
from trainables.pool_mean import NOTHING, PoolMean, pool_mean
from trainables.pseudo_labels import PseudoLabeller, PseudoLabels
from trainables.ranking import ranked
from trainables.row_maps import RowMap, Tilt, calibrated, prior_of, solved_of, temperature_of
from trainables.sample import Sample, limit_of, sample
from trainables.selectors.filling import Block, Filling, candidates, fill, first_candidates
from trainables.selectors.library import fills
from trainables.selectors.located import ExpectedReward
from trainables.selectors.rules import Labelled, Outlook, Rule
from trainables.selectors.sketch import Sketch, sketch
from trainables.tasks.classification import calibration_error


def run_selecting(job: SelectJob, over: Over) -> Outcome:
    """Fit the labeller on the whole pool, then select from each of its shards."""
    tilt = calibrate(job, over)
    merged = merge_sketches(over(partial(sketch_shards, job, tilt)))
    if needs_sample(job):
        found = calibrated(tilt, sampled(job, over))
        merged = replace(merged, rows=found.log_probs, sample=found)
    labelled = labelled_of(job, tilt)
    labeller = fit_labeller(job, tilt, merged, labelled, over)
    parts = over(partial(select_shards, job, labeller))
    measured = measured_of(tilt, merged, labelled)
    return gather_selection(job, labeller, [s for part in parts for s in part], measured)


def calibrate(job: SelectJob, over: Over) -> RowMap:
    """The chain of calibrators, fitted one after the other; ``over`` maps over groups of shards."""
    if not job.calibrators:
        return Tilt()

    def mean_of(_: int, before: RowMap) -> np.ndarray:
        return reduce(PoolMean.merge, over(partial(mean_shards, job, before)), NOTHING).shares()

    def sample_of(before: RowMap) -> Beliefs:
        return calibrated(before, sampled(job, over))

    def rows_of(before: RowMap) -> np.ndarray:
        return sample_of(before).log_probs

    return fit_chain(job.calibrators, mean_of, labelled_of(job, Tilt()), rows_of, sample_of)


def needs_sample(job: SelectJob) -> bool:
    """Whether the selector or the weighting is fitted on whole rows."""
    return job.selector.needs_sample or job.targets.weight.needs_sample


def sampled(job: SelectJob, over: Over) -> Beliefs:
    """A sample of the eligible rows, before calibration, with features where the table has them."""
    merged = reduce(_merged, over(partial(sample_shards, job)))
    logs, features = np.split(merged.values, [job.num_classes], axis=1)
    found = Beliefs.of_log_probs(merged.ids.tolist(), logs)
    return replace(found, features=features.astype(np.float16)) if features.size else found


def sample_shards(job: SelectJob, fragments: Sequence[int]) -> Sample:
    """The sample of some shards of the prediction table: log-probabilities, then features."""
    store = Store(job.store)
    record, parts = store.record("label", job.predictions), []
    for fragment in fragments:
        told = _told(job, store, record, fragment)
        told = told.taken(np.flatnonzero(told.usable()))
        values = told.log_probs
        if told.features is not None:
            values = np.hstack([values, told.features.astype(np.float32)])
        limit = limit_of(values.shape[1])
        parts.append(sample(told.example_ids, values, seed=job.seed, limit=limit))
    return reduce(_merged, parts)


def _merged(one: Sample, other: Sample) -> Sample:
    return one.merge(other, limit_of(one.values.shape[1]))


def mean_shards(job: SelectJob, tilt: RowMap, fragments: Sequence[int]) -> PoolMean:
    """The mean of the tilted predictions of some shards."""
    store = Store(job.store)
    record = store.record("label", job.predictions)
    told = (_told(job, store, record, fragment) for fragment in fragments)
    means = (pool_mean(calibrated(tilt, each)) for each in told)
    return reduce(PoolMean.merge, means, NOTHING)


def sketch_shards(job: SelectJob, tilt: RowMap, fragments: Sequence[int]) -> bytes:
    """The merged sketch of some shards of the prediction table, tilted, as bytes."""
    store = Store(job.store)
    record = store.record("label", job.predictions)
    merged = Sketch(job.num_classes, coarse=False)
    for i, fragment in enumerate(fragments):
        beliefs = calibrated(tilt, _told(job, store, record, fragment))
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


def fit_labeller(
    job: SelectJob, tilt: RowMap, merged: Sketch, labelled: Labelled, over: Over
) -> PseudoLabeller:
    """The labeller of the whole pool."""
    rule = job.selector.fit(merged, labelled, job.seed)
    if fills(job.selector):
        wanted = job.selector.wanted(merged)
        needs = (wanted - merged.reaching(rule.cuts, rule.least)).clip(min=0).tolist()

        def look(known: Filling, block: Block) -> np.ndarray:
            behind = replace(rule, filling=known)
            return np.concatenate(over(partial(candidate_shards, job, tilt, behind, block)))

        rule = replace(rule, filling=fill(needs, look))
    return PseudoLabeller(tilt, rule, job.targets.weight.fit(merged, rule), job.targets)


def candidate_shards(
    job: SelectJob, tilt: RowMap, rule: Rule, block: Block, fragments: Sequence[int]
) -> np.ndarray:
    """Keys uint64 [n, B] of the rows of some shards that a block of classes may take."""
    store, found = Store(job.store), [np.zeros((0, len(block.labels)), np.uint64)]
    record = store.record("label", job.predictions)
    least, held = max(rule.least), 0  # the same of all classes
    for fragment in fragments:
        beliefs = calibrated(tilt, _told(job, store, record, fragment))
        free = beliefs.usable() & (rule.classes(beliefs) < 0)
        found.append(candidates(beliefs, free, block, least, job.seed))
        held += len(found[-1])
        if held > 2 * sum(block.most):
            found = [first_candidates(np.concatenate(found), block)]
            held = len(found[0])
    return first_candidates(np.concatenate(found), block)


def labelled_of(job: SelectJob, tilt: RowMap) -> Labelled:
    """What may be known of the labelled rows, with their predictions tilted."""
    store, data = Store(job.store), Dataset(job.data)
    labelled = data.table(data.manifest.labelled, ["example_id", "label"]).sort_by("example_id")
    labels = labelled["label"].to_numpy().astype(np.int64)
    class_rows = np.bincount(labels, minlength=job.num_classes)
    beliefs, nearness = None, None
    if job.out_of_fold is not None and _reads_out_of_fold(job):
        record = store.record("cross_label", job.out_of_fold)
        told = store.read_table(record, OUT_OF_FOLD)
        at = pc.index_in(told["example_id"], labelled["example_id"].combine_chunks())
        labels, beliefs = labels[at.to_numpy()], calibrated(tilt, Beliefs.of_table(told))
        if isinstance(job.selector, ExpectedReward):
            nearness = read_nearness(store, record)
    return Labelled(class_rows, beliefs, labels, nearness)


def measured_of(tilt: RowMap, merged: Sketch, labelled: Labelled) -> dict[str, float | None]:
    """What is known of calibrated beliefs as a whole; what has no rows to be measured on is absent.

    Entropy of the pool's mean prediction, in nats; expected calibration error of the labelled rows
    out of fold; the temperature that was fitted; iterations of a transport, and the share of mass
    that it left in a wrong place.
    """
    found: dict[str, float | None] = {}
    if (temperature := temperature_of(tilt)) is not None:
        found["temperature"] = temperature
    if merged.mean.rows:
        found["entropy_of_mean"] = float(entr(merged.shares()).sum())
    if labelled.beliefs is not None and labelled.labels is not None:
        told = np.flatnonzero(labelled.beliefs.usable())
        beliefs, labels = labelled.beliefs.taken(told), labelled.labels[told]
        if len(told):
            right = beliefs.labels == labels
            found["calibration_error"] = calibration_error(beliefs.confidence, right)
    if (solved := solved_of(tilt)) is not None and math.isfinite(solved.mass_error):
        found["transport_iterations"] = float(solved.iterations)
        found["transport_mass_error"] = solved.mass_error
    return found


def _reads_out_of_fold(job: SelectJob) -> bool:
    """Whether anything reads out-of-fold predictions; behind features they can't be corrected."""
    located = any(isinstance(each, FromFeatures) for each in job.calibrators)
    return not located or any(each.needs_labelled for each in (job.selector, *job.calibrators))


def select_shards(
    job: SelectJob, labeller: PseudoLabeller, fragments: Sequence[int]
) -> list[Shard]:
    """Select from some shards, row by row, and write the selection's shards."""
    store = Store(job.store)
    predicted = store.record("label", job.predictions)
    previous = store.record("select", job.previous) if job.previous is not None else None
    schema = schemas.selection(job.num_classes, soft=job.targets.kind == "soft")
    folder = store.folder("select", job.address)
    shards = []
    for fragment in fragments:
        name = shard_name(fragment)
        told = _told(job, store, predicted, fragment)
        table = _rows(told.example_ids, labeller.of(told), schema)
        if previous is not None:
            table = _with_kept(table, store.read_table(previous, name), schema)
        table = schemas.conform(table, schema, f"selection of fragment {fragment}")
        counts = np.bincount(table["label"].to_numpy(), minlength=job.num_classes)
        file = folder.write_table(name, table)
        shards.append(Shard(fragment=fragment, file=file, class_rows=tuple(counts.tolist())))
    return shards


def gather_selection(
    job: SelectJob,
    labeller: PseudoLabeller,
    shards: Sequence[Shard],
    measured: dict[str, float | None],
) -> Outcome:
    """The outcome of a selecting step; ``measured`` joins its metrics."""
    ordered = sorted(shards, key=lambda s: s.fragment)
    class_rows = np.sum([s.class_rows for s in ordered], axis=0).tolist()
    predicted = Store(job.store).record("label", job.predictions).counts["class_rows"]
    starved = [
        k
        for k, (got, seen) in enumerate(zip(class_rows, predicted, strict=True))
        if seen and not got
    ]
    counts = {"accepted": sum(class_rows), "class_rows": class_rows, "starved_classes": starved}
    outlook = Outlook.of_classes(Dataset(job.data).labelled_rows, sum(predicted))
    if job.ranking != "confidence":
        outlook = replace(outlook, least_confidence=0)
    metrics: dict[str, Any] = {
        "least": labeller.rule.thresholds(),
        "accepts_all": job.selector.accepts_all(outlook),
        **measured,
    }
    if prior := prior_of(labeller.tilt):
        metrics["prior"] = list(prior)
    if isinstance(labeller.tilt, Tilt) and job.calibrators:
        metrics |= {"power": labeller.tilt.power, "shift": list(labeller.tilt.shift)}
    return Outcome(tuple(s.file for s in ordered), counts, metrics)


def _told(job: SelectJob, store: Store, predicted: Record, fragment: int) -> Beliefs:
    """What the sources believe about the rows of a shard; those held back are marked."""
    name = shard_name(fragment)
    told = filtered(job.filters, Beliefs.of_table(store.read_table(predicted, name)))
    told = ranked(job.ranking, told)
    if not job.remaining or job.previous is None:
        return told
    kept = store.read_table(store.record("select", job.previous), name)["example_id"]
    fresh = ~np.isin(told.example_ids, kept.to_pylist())
    return replace(told, eligible=fresh if told.eligible is None else told.eligible & fresh)


def _rows(example_ids: Sequence[str], found: PseudoLabels, schema: pa.Schema) -> pa.Table:
    """Rows of the selection: the accepted ones with their labels, targets and weights."""
    at = np.flatnonzero(found.accepted)
    labels = pa.array(found.labels[at].astype(np.int32))
    target, kind = labels, schema.field("target").type
    if pa.types.is_fixed_size_list(kind):
        target = pa.FixedSizeListArray.from_arrays(pa.array(found.targets[at].ravel()), type=kind)
    ids = pa.array([example_ids[i] for i in at.tolist()], pa.string())
    return pa.table([ids, labels, target, pa.array(found.weights[at])], schema=schema)


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
