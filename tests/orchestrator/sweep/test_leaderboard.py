"""The leaderboard: its order, its intervals, and what stands on it."""

import math
from typing import Any

import pytest

from orchestrator.sweep.leaderboard import best_of, half_width, leaderboard
from orchestrator.sweep.spec import SweepSpec
from orchestrator.sweep.study import State, Trial

SPEC = SweepSpec()


def trial(number: int, state: State, *values: float, **notes: Any) -> Trial:
    if "scores" not in notes and values:
        notes["scores"] = [values[0]]
    return Trial(number, state, notes.pop("origin", "sampler"), {"x": number}, {}, values, notes)


def numbers(trials: list[Trial], spec: SweepSpec = SPEC) -> list[int]:
    return [place.trial for place in leaderboard(trials, spec)]


def test_finished_trials_come_first_by_their_objective_then_pruned_then_failed():
    trials = [
        trial(0, "failed", error="fell over"),
        trial(1, "complete", 0.7),
        trial(2, "pruned", 0.9),
        trial(3, "complete", 0.8),
        trial(4, "pruned", 0.95),
        trial(5, "complete", 0.8),
    ]
    assert numbers(trials) == [3, 5, 1, 4, 2, 0]


def test_an_objective_to_be_small_is_ordered_so():
    spec = SweepSpec(objectives=("seconds", "score"))
    trials = [trial(0, "complete", 12.0, 0.9), trial(1, "complete", 7.0, 0.8)]
    assert numbers(trials, spec) == [1, 0]


def test_trials_that_were_not_played_or_not_ended_are_not_shown():
    states: list[State] = ["waiting", "running", "screened", "known"]
    assert numbers([trial(i, state) for i, state in enumerate(states)]) == []


def test_of_a_trial_that_was_taken_up_again_only_the_later_one_stands_here():
    trials = [
        trial(0, "complete", 0.7),
        trial(1, "pruned", 0.6),
        trial(2, "complete", 0.9, origin="promoted", promoted_from=1),
    ]
    assert numbers(trials) == [2, 0]


def test_a_taken_up_trial_that_still_waits_does_not_hide_what_there_is():
    trials = [
        trial(0, "complete", 0.7),
        trial(1, "pruned", 0.6),
        trial(2, "waiting", origin="promoted", promoted_from=1),
    ]
    assert numbers(trials) == [0, 1]


def test_a_place_holds_means_over_seeds_and_the_reason():
    (place,) = leaderboard(
        [
            trial(
                4,
                "pruned",
                0.5,
                scores=[0.7, 0.8, 0.9],
                tests=[0.6, 0.7, 0.8],
                seeds=[1, 2, 3],
                rounds=2,
                work_s=12.345,
                reason="below the bar",
            )
        ],
        SPEC,
    )
    assert place.score == pytest.approx(0.8)
    assert place.test == pytest.approx(0.7)
    # Student's 0.975 quantile with 2 degrees of freedom is 4.302653; the deviation is 0.1
    assert place.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert (place.seeds, place.rounds, place.work_s) == ((1, 2, 3), 2, 12.3)
    assert (place.reason, place.chosen) == ("below the bar", {"x": 4})


def test_a_failed_place_gives_its_error():
    (place,) = leaderboard([trial(0, "failed", error="fell over")], SPEC)
    assert (place.reason, place.score, place.half_width) == ("fell over", None, None)


def test_students_interval_by_hand():
    # two values: the 0.975 quantile with 1 degree of freedom is 12.706205
    assert half_width([0.5, 0.7]) == pytest.approx(12.706205 * 0.1, rel=1e-6)
    assert half_width([0.5, 0.5, 0.5]) == 0.0
    assert half_width([0.5]) is None
    assert half_width([]) is None


def test_the_best_is_the_first_that_finished():
    places = leaderboard([trial(0, "pruned", 0.9), trial(1, "complete", 0.5)], SPEC)
    best = best_of(places)
    assert best is not None
    assert best.trial == 1
    assert best_of(leaderboard([trial(0, "pruned", 0.9)], SPEC)) is None
