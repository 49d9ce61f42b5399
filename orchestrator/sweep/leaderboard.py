"""The leaderboard of a sweep: trials by their first objective, with confidence over seeds."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from orchestrator.sweep.spec import MAXIMISED, SweepSpec
from orchestrator.sweep.study import State, Trial
from trainables.spec import Spec

CONFIDENCE = 0.95


class Place(Spec):
    """One trial on the leaderboard."""

    trial: int
    """Number of the trial in the study."""
    state: State
    """How it ended."""
    origin: str
    """Who proposed it."""
    values: tuple[float, ...]
    """Objectives, mean over seeds; of a pruned trial its last validation score."""
    score: float | None
    """Validation score of the delivered rounds, mean over seeds."""
    half_width: float | None
    """Half the width of the 95 % confidence interval of that mean; None with one seed."""
    test: float | None
    """Test score of the same rounds, mean over seeds; decided nothing."""
    seeds: tuple[int, ...]
    """Seeds that were played."""
    rounds: int
    """Rounds that were played."""
    work_s: float
    """Seconds of work behind all steps, whoever did them."""
    chosen: dict[str, Any]
    """Values by path."""
    reason: str = ""
    """Why it was pruned or failed."""


def leaderboard(trials: Sequence[Trial], spec: SweepSpec) -> list[Place]:
    """Finished trials, the best first, then pruned and failed ones.

    Of a pruned trial that was taken up again only the later one stands here.
    """
    shown = ("complete", "pruned", "failed")
    replaced = {t.notes.get("promoted_from") for t in trials if t.state in shown}
    places = [
        _place(trial) for trial in trials if trial.state in shown and trial.number not in replaced
    ]
    sign = -1 if spec.objectives[0] in MAXIMISED else 1

    def order(place: Place) -> tuple[int, float, int]:
        value = sign * place.values[0] if place.values else 0.0
        return (shown.index(place.state), value, place.trial)

    return sorted(places, key=order)


def best_of(places: Sequence[Place]) -> Place | None:
    """The best finished trial by the first objective; None if none finished."""
    return next((place for place in places if place.state == "complete"), None)


def _place(trial: Trial) -> Place:
    notes = trial.notes
    scores, tests = notes.get("scores", []), notes.get("tests", [])
    return Place(
        trial=trial.number,
        state=trial.state,
        origin=trial.origin,
        values=trial.values,
        score=fmean(scores) if scores else None,
        half_width=half_width(scores),
        test=fmean(tests) if tests else None,
        seeds=tuple(notes.get("seeds", ())),
        rounds=notes.get("rounds", 0),
        work_s=round(notes.get("work_s", 0.0), 1),
        chosen=trial.chosen,
        reason=notes.get("reason") or notes.get("error") or "",
    )


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of Student's 95 % interval of a mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    quantile = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
    return quantile * stdev(values) / math.sqrt(len(values))
