"""Which trials end early. Decides on curves alone, never acts.

A curve is validation score by round. It rises and falls: a low threshold lifts the first rounds
and spoils the later ones. So a trial is judged by what it can still reach, its best round so far
carried on along its last rise, and only after a round that learned from pseudo-labels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.sweep.spec import Pruning

Curve = Mapping[int, float]
"""Validation score by round; rounds from 0 without a gap."""


@dataclass(frozen=True)
class Verdict:
    """Whether a trial ends, and why."""

    ends: bool
    reason: str = ""
    """In words, for the trial's record."""


GO_ON = Verdict(ends=False)


def judge(
    pruning: Pruning, number: int, curve: Curve, others: Sequence[Curve], num_rounds: int
) -> Verdict:
    """Whether the trial with this curve should end after its last round."""
    last = max(curve, default=0)
    if pruning.rule == "none" or last >= num_rounds - 1:
        return GO_ON
    rounds = range(last - pruning.patience_rounds + 1, last + 1)
    verdicts = [_below(pruning, number, curve, others, r, num_rounds) for r in rounds]
    return verdicts[-1] if all(v.ends for v in verdicts) else GO_ON


def _below(
    pruning: Pruning, number: int, curve: Curve, others: Sequence[Curve], at: int, num_rounds: int
) -> Verdict:
    """Whether what the trial could reach after round ``at`` lies below the bar of that round."""
    if at < pruning.first_round:
        return GO_ON
    seen = [best(other, at) for other in others if at in other]
    if len(seen) < pruning.startup_trials:
        return GO_ON
    bar = _bar(pruning, number, best(curve, at), seen, at)
    reach = reachable(curve, at, num_rounds)
    if bar is None or reach >= bar:
        return GO_ON
    return Verdict(
        ends=True,
        reason=f"after round {at} the best is {best(curve, at):.4f} and its rise leads to "
        f"{reach:.4f}, below {bar:.4f}, the bar of {pruning.rule} over {len(seen)} other trials",
    )


def best(curve: Curve, at: int) -> float:
    """The best value up to a round."""
    return max(value for round_, value in curve.items() if round_ <= at)


def reachable(curve: Curve, at: int, num_rounds: int) -> float:
    """The best so far, carried on to the last round along the rise of the best in round ``at``.

    The rise is halved each further round, since gains of self-training fade.
    """
    rise = best(curve, at) - best(curve, at - 1) if at else 0.0
    return best(curve, at) + rise * sum(0.5**k for k in range(1, num_rounds - at))


def _bar(pruning: Pruning, number: int, own: float, seen: Sequence[float], at: int) -> float | None:
    """The value that a trial must be able to reach after round ``at``; None where none is asked."""
    if pruning.rule == "median":
        return float(np.median(seen))
    if pruning.rule == "percentile":
        return float(np.quantile(seen, 1 - pruning.share))
    eta, first = pruning.reduction, pruning.first_round
    if pruning.rule == "hyperband":  # brackets differ in where their first rung lies
        first *= eta ** (number % 2)
    rungs = {first * eta**k for k in range(32)}
    if at not in rungs:
        return None
    ranked = sorted([*seen, own], reverse=True)
    return ranked[max(1, math.ceil(len(ranked) / eta)) - 1]


def collapse(
    pruning: Pruning,
    curve: Curve,
    class_rows: Sequence[int],
    labelled_rows: Sequence[int],
) -> Verdict:
    """Whether a trial has collapsed: one class swallows the selection, or validation fell away.

    Never after round 0, which learned from labels alone: weak students recover from it.
    """
    last = max(curve, default=0)
    if last < pruning.first_round:
        return GO_ON
    fall = curve.get(0, 0.0) - curve.get(last, 0.0)
    if fall > pruning.collapse_fall:
        return Verdict(
            ends=True,
            reason=f"collapsed: validation fell from {curve[0]:.4f} in round 0 to "
            f"{curve[last]:.4f} in round {last}, by more than {pruning.collapse_fall:g}",
        )
    total, labelled = sum(class_rows), sum(labelled_rows)
    if not total or len(class_rows) < 2 or not labelled:
        return GO_ON
    bound = pruning.collapse_class_share or (1 + max(labelled_rows) / labelled) / 2
    share = max(class_rows) / total
    if share > bound:
        swallowing = max(range(len(class_rows)), key=lambda k: class_rows[k])
        return Verdict(
            ends=True,
            reason=f"collapsed: class {swallowing} holds {share:.3f} of the selection, "
            f"more than {bound:.3f}",
        )
    return GO_ON
