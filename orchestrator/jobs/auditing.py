"""Audit a selection for the report: what it holds, what changed, and its precision where known.

Nothing here reaches a decision. Sums are taken shard by shard and added, so the cost is one pass
over the tables of the round and of the round before.

Elements are rows where labels are classes, points where they are points.

Legend: N rows, C names: classes or points.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import AuditJob
from orchestrator.jobs.shards import shard_name
from orchestrator.store.store import Outcome, Store
from trainables.spec import Spec
from trainables.tasks.outcomes import Judged
from trainables.tasks.task import task_of

NOTHING = Judged(np.zeros(0, np.int64), np.zeros(0, bool))
"""Of a data set without hidden labels."""


class Tally(Spec):
    """Sums over some shards of a pool."""

    known: tuple[int, ...]
    """Accepted elements whose truth is known, by name [C]."""
    right: tuple[int, ...]
    """Those of them that are right [C]."""
    predicted: tuple[int, ...]
    """Predicted elements by name [C]."""
    accepted: tuple[int, ...]
    """Accepted elements by name [C]."""
    truths: int = 0
    """Elements of the pool whose truth is known, accepted or not."""
    least: float = 1.0
    """Lowest confidence of the teacher in an accepted element; 1 of none."""
    told: int = 0
    """Accepted elements that the teacher told something of; not those of refused rows."""
    confidence: float = 0.0
    """Sum of its confidence over them."""
    weight: float = 0.0
    """Sum of their weights."""
    squared_weight: float = 0.0
    """Sum of their squared weights."""
    new: int = 0
    """Accepted rows that the selection before did not hold."""
    dropped: int = 0
    """Rows of the selection before that are not accepted now."""
    compared: int = 0
    """Elements that the teacher before predicted as well."""
    flipped: int = 0
    """Those of them that it predicted otherwise."""

    def add(self, other: "Tally") -> "Tally":
        """The sums over both, and the lower of the least confidences."""
        whole = {
            name: tuple(a + b for a, b in zip(mine, theirs, strict=True))
            if isinstance(mine, tuple)
            else mine + theirs
            for name in Tally.model_fields
            for mine, theirs in [(getattr(self, name), getattr(other, name))]
        }
        return Tally.model_validate(whole | {"least": min(self.least, other.least)})


def audit_shards(job: AuditJob, fragments: Sequence[int]) -> Tally:
    """The tally of some shards."""
    return reduce(Tally.add, (_audit(job, fragment) for fragment in fragments))


def _audit(job: AuditJob, fragment: int) -> Tally:
    store, name, task = Store(job.store), shard_name(fragment), task_of(job.task)
    chosen = store.read_table(store.record("select", job.selection), name)
    told = store.read_table(store.record("label", job.predictions), name)
    found = task.accepted(chosen, told)
    sure = found.confidence[~np.isnan(found.confidence)]
    truth = _truth(job, fragment)
    judged = task.judged(chosen, truth) if truth is not None else NOTHING
    changed = _since_before(job, store, name, chosen["example_id"], told)
    return Tally(
        known=_counts(judged.names, task.num_names),
        right=_counts(judged.names[judged.right], task.num_names),
        truths=task.known(truth) if truth is not None else 0,
        least=float(sure.min(initial=1.0)),
        predicted=tuple(task.predicted(told).tolist()),
        accepted=_counts(found.names, task.num_names),
        told=len(sure),
        confidence=float(sure.sum()),
        weight=float(found.weights.sum()),
        squared_weight=float((found.weights**2).sum()),
        **changed,
    )


def _truth(job: AuditJob, fragment: int) -> pa.Table | None:
    """The hidden labels of a fragment, if the data set has any."""
    data = Dataset(job.data)
    return data.read(data.manifest.hidden.files[fragment]) if data.manifest.hidden.files else None


def _since_before(
    job: AuditJob, store: Store, name: str, ids: pa.ChunkedArray, told: pa.Table
) -> dict[str, int]:
    """What changed since the selection and the predictions before, if there were such."""
    found: dict[str, int] = {}
    if job.selection_before is not None:
        record = store.record("select", job.selection_before)
        before = store.read_table(record, name)["example_id"]
        same = pc.sum(pc.is_in(ids, before.combine_chunks())).as_py() or 0
        found |= {"new": len(ids) - same, "dropped": len(before) - same}
    if job.predictions_before is not None:
        record = store.record("label", job.predictions_before)
        changed = task_of(job.task).changed(told, store.read_table(record, name))
        found |= {"compared": changed.compared, "flipped": changed.changed}
    return found


def _counts(names: np.ndarray, num_names: int) -> tuple[int, ...]:
    return tuple(np.bincount(names, minlength=num_names).tolist())


def gather_audit(job: AuditJob, parts: Sequence[Tally]) -> Outcome:
    """The audit of the whole selection; a share over nothing is None."""
    whole = reduce(Tally.add, parts)
    known, accepted = sum(whole.known), sum(whole.accepted)
    by_class = [r / n if n else None for n, r in zip(whole.known, whole.right, strict=True)]
    counts = {"known": known, "accepted": accepted, "new": whole.new, "dropped": whole.dropped}
    metrics = {
        "precision": sum(whole.right) / known if known else None,
        "recall": _share(sum(whole.right), whole.truths),
        "class_precision": by_class,
        "coverage": _share(accepted, sum(whole.predicted)),
        "mean_confidence": _share(whole.confidence, whole.told),
        "min_confidence": whole.least if whole.told else None,
        "flip_rate": _share(whole.flipped, whole.compared),
        "effective_rows": _share(whole.weight**2, whole.squared_weight),
        "divergence": divergence(whole.accepted, job.labelled_rows),
    }
    return Outcome((), counts, metrics)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def divergence(accepted: Sequence[int], labelled: Sequence[int]) -> float | None:
    """Kullback-Leibler divergence of the accepted classes from the labelled ones, in nats."""
    if not sum(accepted) or not sum(labelled):
        return None
    p = np.array(accepted) / sum(accepted)
    q = np.maximum(np.array(labelled) / sum(labelled), 1e-12)
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())
