"""What of a round's steps stands in the run's record, as fields of `RoundRecord`."""

import math
from typing import Any

from orchestrator.store.record import Record
from trainables.diagnostics import Diagnostics

REPORTED = (
    "coverage",
    "mean_confidence",
    "min_confidence",
    "flip_rate",
    "new",
    "dropped",
    "effective_rows",
    "divergence",
    "recall",
    "entropy_of_mean",
    "calibration_error",
    "temperature",
    "transport_iterations",
    "transport_mass_error",
)
"""What of a selection and its audit stands in the record, where it was measured."""


def chosen_of(selected: Record | None, audit: Record | None) -> dict[str, Any]:
    """Precision, thresholds and what else was measured of a selection; empty without one."""
    found = dict(selected.metrics) if selected else {}
    found |= {**audit.metrics, "new": audit.counts["new"]} if audit else {}
    found |= {"dropped": audit.counts["dropped"]} if audit else {}
    return {
        "precision": found.get("precision"),
        "class_precision": found.get("class_precision", ()),
        "thresholds": found.get("least", ()),
        "prior": found.get("prior", ()),
        "selection": {name: found[name] for name in REPORTED if name in found},
    }


def trained_of(record: Record) -> dict[str, Any]:
    """Terms of a training step and its diagnostics; records of older stores hold none of these."""
    told = Diagnostics.model_validate(record.metrics.get("diagnostics", {}))
    terms = record.metrics.get("loss", {})
    return {
        "in_step": told.in_step,
        "terms": {name: value if math.isfinite(value) else None for name, value in terms.items()},
        "term_weights": told.term_weights,
        "teacher_distance": told.teacher_distance,
        "teacher_disagreement": told.teacher_disagreement,
        "teacher_queue": told.teacher_queue,
    }
