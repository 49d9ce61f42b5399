"""Audit a selection for the report: what it holds, what changed, and its precision where known.

Nothing here reaches a decision. Sums are taken shard by shard and added, so the cost is one pass
over the tables of the round and of the round before.

Legend: N rows, C classes.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import AuditJob
from orchestrator.jobs.selecting import shard_name
from orchestrator.store.store import Outcome, Store
from trainables.spec import Spec


class Tally(Spec):
    """Sums over some shards of a pool."""

    known: tuple[int, ...]
    """Accepted rows with a known label, by pseudo-class [C]."""
    right: tuple[int, ...]
    """Those of them whose pseudo-label is right [C]."""
    predicted: tuple[int, ...]
    """Rows by predicted class [C]."""
    accepted: tuple[int, ...]
    """Accepted rows by pseudo-class [C]."""
    confidence: float = 0.0
    """Sum of the teacher's confidence over accepted rows."""
    weight: float = 0.0
    """Sum of their weights."""
    squared_weight: float = 0.0
    """Sum of their squared weights."""
    new: int = 0
    """Accepted rows that the selection before did not hold."""
    dropped: int = 0
    """Rows of the selection before that are not accepted now."""
    compared: int = 0
    """Rows that the teacher before predicted as well."""
    flipped: int = 0
    """Those of them whose predicted class changed."""

    def add(self, other: "Tally") -> "Tally":
        """The sums over both."""
        return Tally.model_validate(
            {
                name: tuple(a + b for a, b in zip(mine, theirs, strict=True))
                if isinstance(mine, tuple)
                else mine + theirs
                for name in Tally.model_fields
                for mine, theirs in [(getattr(self, name), getattr(other, name))]
            }
        )


def audit_shards(job: AuditJob, fragments: Sequence[int]) -> Tally:
    """The tally of some shards."""
    return reduce(Tally.add, (_audit(job, fragment) for fragment in fragments))


def _audit(job: AuditJob, fragment: int) -> Tally:
    store, name, num = Store(job.store), shard_name(fragment), job.num_classes
    chosen = store.read_table(store.record("select", job.selection), name)
    told = store.read_table(store.record("label", job.predictions), name).select(
        ["example_id", "label", "confidence"]
    )
    ids, labels = chosen["example_id"], chosen["label"].to_numpy()
    weight = chosen["weight"].to_numpy().astype(np.float64)
    known, right = _against_truth(job, chosen, fragment)
    sure = pc.index_in(ids, told["example_id"].combine_chunks())
    confidence = told["confidence"].take(sure).to_numpy().astype(np.float64)
    changed = _since_before(job, store, name, ids, told)
    return Tally(
        known=_counts(known, num),
        right=_counts(right, num),
        predicted=_counts(told["label"].to_numpy(), num),
        accepted=_counts(labels, num),
        confidence=float(confidence.sum()),
        weight=float(weight.sum()),
        squared_weight=float((weight**2).sum()),
        **changed,
    )


def _against_truth(job: AuditJob, chosen: pa.Table, fragment: int) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-labels of rows with a known label, and those of them that are right."""
    data = Dataset(job.data)
    if not data.manifest.hidden.files:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    truth = data.read(data.manifest.hidden.files[fragment]).rename_columns(["example_id", "truth"])
    schema = pa.schema([("example_id", pa.string()), ("label", pa.int32())])
    joined = (
        chosen.select(["example_id", "label"])
        .cast(schema)
        .join(truth, "example_id", join_type="inner")
    )
    labels, hidden = joined["label"].to_numpy(), joined["truth"].to_numpy()
    return labels, labels[labels == hidden]


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
        earlier = store.read_table(record, name)
        at = pc.index_in(told["example_id"], earlier["example_id"].combine_chunks())
        there = pc.is_valid(at).to_numpy()
        now = told["label"].to_numpy()[there]
        then = earlier["label"].take(at.drop_null()).to_numpy()
        found |= {"compared": len(now), "flipped": int((now != then).sum())}
    return found


def _counts(labels: np.ndarray, num_classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=num_classes).tolist())


def gather_audit(job: AuditJob, parts: Sequence[Tally]) -> Outcome:
    """The audit of the whole selection; a share over nothing is None."""
    whole = reduce(Tally.add, parts)
    known, accepted = sum(whole.known), sum(whole.accepted)
    by_class = [r / n if n else None for n, r in zip(whole.known, whole.right, strict=True)]
    counts = {"known": known, "accepted": accepted, "new": whole.new, "dropped": whole.dropped}
    metrics = {
        "precision": sum(whole.right) / known if known else None,
        "class_precision": by_class,
        "coverage": _share(accepted, sum(whole.predicted)),
        "mean_confidence": _share(whole.confidence, accepted),
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
