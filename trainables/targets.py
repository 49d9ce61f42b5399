"""Targets: what accepted rows are trained towards, and how much each counts.

The same settings serve the stored table and the training step.

Legend: N rows, C classes.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from trainables.beliefs import Beliefs
from trainables.spec import Spec
from trainables.weighting import One, Weighting


class TargetSpec(Spec):
    """What the student is trained towards on accepted rows, and how much a row counts."""

    kind: Literal["hard", "soft"] = "hard"
    """'hard' is the class that a row was accepted as, the most probable one unless it fills
    another; 'soft' the whole distribution."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Soft targets are p^(1/temperature), normalised; below 1 sharpens."""
    weight: Weighting = One()
    """How much a row counts; reads confidences as the selector saw them."""
    reads: Literal["calibrated", "teacher"] = "calibrated"
    """Labels and soft targets come from what the selector saw, or from the teacher as it was."""

    def source(self, told: Beliefs, seen: Beliefs) -> Beliefs:
        """The beliefs that targets are read from: the labeller's own or the calibrated ones."""
        return seen if self.reads == "calibrated" else told

    def distribution(self, beliefs: Beliefs) -> np.ndarray:
        """Target distributions of these rows, float32 [N, C]."""
        if self.kind == "hard":
            return np.asarray(np.eye(beliefs.num_classes, dtype=np.float32)[beliefs.labels])
        logs = beliefs.log_probs.astype(np.float64) / self.temperature
        with np.errstate(invalid="ignore"):  # rows of NaN stay so; nothing is trained on them
            probs = np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))
        return np.asarray(probs.astype(np.float32))
