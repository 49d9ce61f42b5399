"""Combine: the prediction tables of several label sources become one, shard by shard.

A row that one of the sources could not label is not in the combined table.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial, reduce

import numpy as np

from orchestrator.errors import DataError
from orchestrator.jobs.job import CombineJob
from orchestrator.jobs.shards import Over, Shard, shard_name
from orchestrator.store.store import Outcome, Store
from trainables import schemas
from trainables.beliefs import Beliefs
from trainables.combining import Combined, combined
from trainables.sample import Sample, limit_of, sample


def run_combining(job: CombineJob, over: Over, *, most_refused_share: float) -> Outcome:
    """Fit the combiner, then combine shard by shard.

    Raises:
        DataError: The sources together leave out more than the allowed share of rows.
    """
    parts = over(partial(combine_shards, job, fit_combiner(job, over)))
    outcome = gather_combined(job, [shard for part in parts for shard in part])
    refused, rows = outcome.counts["refused"], outcome.counts["rows"]
    if refused > most_refused_share * (refused + rows):
        raise DataError(
            f"{refused} of {refused + rows} pool rows are refused by one label source or another, "
            f"more than the share {most_refused_share} that placement.most_refused_share allows: "
            "refused.parquet of the labelling steps names them"
        )
    return outcome


def fit_combiner(job: CombineJob, over: Over) -> Combined:
    """The combiner, fitted on a sample of the pool if it needs one."""
    if not job.combine.needs_sample:
        return job.combine.fit(np.zeros((len(job.predictions), 0, job.num_classes)))
    limit = limit_of(len(job.predictions) * job.num_classes)
    merged = reduce(lambda a, b: a.merge(b, limit), over(partial(sample_shards, job)))
    return job.combine.fit(merged.values.transpose(1, 0, 2))


def sample_shards(job: CombineJob, fragments: Sequence[int]) -> Sample:
    """The sample of some shards: beliefs of all sources [n, M, C]."""
    limit = limit_of(len(job.predictions) * job.num_classes)
    parts = []
    for fragment in fragments:
        ids, told, _ = _told(job, fragment)
        parts.append(sample(ids, told.transpose(1, 0, 2), seed=job.seed, limit=limit))
    return reduce(lambda a, b: a.merge(b, limit), parts)


def combine_shards(job: CombineJob, fitted: Combined, fragments: Sequence[int]) -> list[Shard]:
    """Combine some shards and write them."""
    store = Store(job.store)
    folder, found = store.folder("label", job.address), []
    for fragment in fragments:
        ids, told, first = _told(job, fragment)
        width = first.num_features
        schema = schemas.predictions(job.num_classes, doubt=True, features=width)
        before = None
        if job.before is not None:
            record = store.record("label", job.before)
            old = Beliefs.of_table(store.read_table(record, shard_name(fragment)))
            before = np.full(told.shape[1:], np.nan, np.float32)
            now, then = _shared([ids, old.example_ids])
            before[now] = old.log_probs[then]
        beliefs = combined(fitted, ids, told, before, job.remember)
        doubt = first.doubt if len(told) == 1 else None  # that of its passes, if it is alone
        beliefs = replace(beliefs, doubt=doubt or beliefs.doubt, features=first.features)
        table = schemas.conform(
            beliefs.to_table(schema), schema, f"combined predictions of fragment {fragment}"
        )
        file = folder.write_table(shard_name(fragment), table)
        rows = np.bincount(beliefs.labels, minlength=job.num_classes)
        found.append(Shard(fragment=fragment, file=file, class_rows=tuple(rows.tolist())))
    return found


def gather_combined(job: CombineJob, shards: Sequence[Shard]) -> Outcome:
    """The outcome of a combining step."""
    ordered = sorted(shards, key=lambda shard: shard.fragment)
    class_rows = np.sum([shard.class_rows for shard in ordered], axis=0).tolist()
    rows = sum(shard.file.rows or 0 for shard in ordered)
    first = Store(job.store).record("label", job.predictions[0]).counts
    refused = first["rows"] + first["refused"] - rows
    counts = {"rows": rows, "refused": refused, "class_rows": class_rows}
    return Outcome(tuple(shard.file for shard in ordered), counts, {})


def _told(job: CombineJob, fragment: int) -> tuple[list[str], np.ndarray, Beliefs]:
    """Ids of a fragment's rows, what every source believes of them, float32 [M, N, C], the first's.

    The features of the combined rows are those of the first source.
    """
    store = Store(job.store)
    parts = [
        Beliefs.of_table(store.read_table(store.record("label", address), shard_name(fragment)))
        for address in job.predictions
    ]
    ids = [part.example_ids for part in parts]
    if any(each != ids[0] for each in ids[1:]):
        parts = [part.taken(at) for part, at in zip(parts, _shared(ids), strict=True)]
    return parts[0].example_ids, np.stack([part.log_probs for part in parts]), parts[0]


def _shared(ids: list[list[str]]) -> list[np.ndarray]:
    """Where the rows that all lists hold stand in each, in the order of the first."""
    places = [{name: at for at, name in enumerate(each)} for each in ids]
    names = [name for name in ids[0] if all(name in each for each in places[1:])]
    return [np.array([each[name] for name in names], np.int64) for each in places]
