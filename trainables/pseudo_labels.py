"""Pseudo-labels: beliefs in; accepted rows, their targets and weights out.

One labeller serves both places where labels are chosen: the stored table, where it is fitted on the
whole pool once a round, and the training step, where it is fitted on running statistics.

Legend: N rows, b rows of this worker, B rows of the global batch, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.beliefs import Beliefs
from trainables.calibrators import Calibrator, fit_chain
from trainables.pool_mean import pool_mean
from trainables.row_maps import RowMap, calibrated
from trainables.selectors.adaptive import FlexThreshold
from trainables.selectors.library import Selector
from trainables.selectors.rules import Labelled, Rule
from trainables.selectors.running import Batch, Running
from trainables.targets import TargetSpec
from trainables.weighting import Weights
from trainables.worker import Worker


@dataclass(frozen=True)
class PseudoLabels:
    """What a labeller makes of a block of rows."""

    accepted: np.ndarray
    """Which rows are trained on, bool [N]."""
    labels: np.ndarray
    """Classes that they stand for, int64 [N]."""
    targets: np.ndarray
    """Target distributions float32 [N, C]."""
    weights: np.ndarray
    """How much each row counts, float32 [N]; 0 for rows that are not accepted."""
    confidence: np.ndarray
    """Their confidences as the selector saw them, float32 [N]."""

    def mass(self) -> np.ndarray:
        """Targets times weights, float32 [N, C]."""
        # rows whose predictions are not numbers have no target either
        return np.where(self.accepted[:, None], self.targets * self.weights[:, None], 0)


@dataclass(frozen=True)
class PseudoLabeller:
    """A fitted chain of calibrators, a selector's rule and weights: applied row by row."""

    tilt: RowMap
    rule: Rule
    weights: Weights
    targets: TargetSpec

    def of(self, told: Beliefs) -> PseudoLabels:
        """Pseudo-labels of rows that the labelling network believes this about."""
        return self.of_seen(told, calibrated(self.tilt, told))

    def of_seen(self, told: Beliefs, seen: Beliefs) -> PseudoLabels:
        """Pseudo-labels of rows that the selector sees as ``seen``."""
        classes = self.rule.classes(seen)
        accepted = classes >= 0
        if self.rule.filling is not None:
            at = np.flatnonzero(accepted & (classes != seen.labels))
            told, seen = (each.moved(classes[at], at) for each in (told, seen))
        source = self.targets.source(told, seen)
        weights = np.where(accepted, self.weights.of_rows(told, seen), 0)
        targets = self.targets.distribution(source)
        weights = weights.astype(np.float32)
        return PseudoLabels(accepted, source.labels, targets, weights, seen.confidence)


@dataclass(frozen=True)
class StepRows:
    """The pool rows of one step."""

    told: Beliefs
    """What the labelling network believes about the weak views of this worker's rows [b]."""
    places: np.ndarray
    """Positions of the whole global batch in the pool source, int64 [B]."""
    refine: Callable[[Beliefs], Beliefs] | None = None
    """What stands between the calibrators and the selector, if anything."""


@dataclass(frozen=True)
class StepLabels:
    """What a step's rows gave."""

    labeller: PseudoLabeller
    calibrated: Beliefs
    """The step's rows behind the calibrators."""
    seen: Beliefs
    """The same behind the refinement, as the selector sees them."""

    def of_rows(self, told: Beliefs) -> PseudoLabels:
        """Pseudo-labels of the step's rows, which the network believes ``told`` about."""
        return self.labeller.of_seen(told, self.seen)


def fit_in_step(
    calibrators: Sequence[Calibrator],
    selector: Selector,
    targets: TargetSpec,
    rows: StepRows,
    running: Running,
    labelled: Labelled,
    worker: Worker,
) -> StepLabels:
    """The labeller of one training step; takes the step's rows into the running statistics."""
    told, num_rows = rows.told, len(rows.places)

    def mean_of(stage: int, tilt: RowMap) -> np.ndarray:
        return running.see_mean(stage, worker.total_mean(pool_mean(calibrated(tilt, told))))

    tilt = fit_chain(calibrators, mean_of, labelled)
    before = calibrated(tilt, told)
    seen = rows.refine(before) if rows.refine else before
    labels = np.where(seen.usable(), seen.labels, -1)
    batch = Batch(
        places=rows.places,
        labels=worker.gather(labels, num_rows),
        confidence=worker.gather(seen.confidence, num_rows),
        mean=worker.total_mean(pool_mean(seen)),
    )
    running.see(batch, selector.sure_from() if isinstance(selector, FlexThreshold) else None)
    rule = selector.fit(running, labelled, seed=0)
    labeller = PseudoLabeller(tilt, rule, targets.weight.fit(running, rule), targets)
    return StepLabels(labeller, before, seen)
