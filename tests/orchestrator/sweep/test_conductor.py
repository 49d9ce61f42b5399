"""The conductor, driven by hand: what is proposed, what goes on, what is counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.sweep.conductor import Conductor, Task, _curves
from orchestrator.sweep.space import resolve_space
from orchestrator.sweep.study import Study, Trial
from orchestrator.tracking.tracker import Tracker, read_events
from tests.orchestrator.sweep.helpers import RATE, SHARE, TWO, config_of, played

LABELLED = (10, 10)
ROUNDS = 5


class Stand:
    """A conductor with its study and log in a folder; opened again, it is a sweep that goes on."""

    def __init__(
        self,
        folder: Path,
        space: dict[str, Any] = TWO,
        stopping: Callable[[], bool] = lambda: False,
        **sweep: Any,
    ) -> None:
        config = config_of(space, **{"trials": 8, "sampler": "random", **sweep})
        assert config.sweep is not None
        self.folder, self.space = folder, resolve_space(config)
        self.study = Study(folder, "sweep", config.sweep, self.space)
        if not self.study.remembered("queued"):
            self.study.enqueue(self.space.defaults(), "defaults")
            self.study.remember("queued", value=True)
        self.tracker = Tracker(folder, [])
        self.conductor = Conductor(
            config.sweep, self.space, self.study, self.tracker, LABELLED, stopping
        )

    def begin(self) -> Task:
        task = self.conductor.propose()
        assert task is not None
        return task

    def play(self, *scores: float, number: int | None = None, start: int = 0) -> int:
        """Play the next trial, or this one, along a curve until the conductor ends it."""
        number = self.begin().number if number is None else number
        for round_, score in enumerate(scores, start):
            best = max(scores[: round_ - start + 1])
            outcome = played(round_, score, best=best, finished=round_ == ROUNDS - 1)
            if not self.conductor.heard(number, outcome):
                break
        return number

    def trial(self, number: int) -> Trial:
        return self.study.trials()[number]

    def states(self) -> list[str]:
        return [trial.state for trial in self.study.trials()]

    def told(self, name: str) -> list[dict[str, Any]]:
        return [event for event in read_events(self.folder) if event["event"] == name]


def level(value: float) -> list[float]:
    return [value] * ROUNDS


# ---- what is proposed


def test_trials_are_playing_from_their_proposal_to_their_end(tmp_path):
    stand = Stand(tmp_path)
    first, second = stand.begin().number, stand.begin().number
    assert stand.conductor.playing() == [first, second]
    stand.conductor.failed(first, "no")
    assert stand.conductor.playing() == [second]


def test_the_first_trial_plays_the_methods_own_settings(tmp_path):
    stand = Stand(tmp_path)
    task = stand.begin()
    (config,) = task.configs
    assert (task.number, config.recipe) == (0, stand.space.base.recipe)
    (event,) = stand.told("trial_started")
    assert (event["origin"], event["chosen"]) == ("defaults", {SHARE: 0.5, RATE: 0.03})
    assert event["recipe"] == config.recipe.plain()


def test_as_many_trials_are_proposed_as_were_asked_for(tmp_path):
    stand = Stand(tmp_path, trials=3)
    assert [stand.begin().number for _ in range(3)] == [0, 1, 2]
    assert stand.conductor.propose() is None
    assert len({trial.chosen[SHARE] for trial in stand.study.trials()}) == 3


def test_every_seed_has_a_config_of_its_own(tmp_path):
    stand = Stand(tmp_path, seeds=[3, 5, 8])
    configs = stand.begin().configs
    assert [config.recipe.seed for config in configs] == [3, 5, 8]
    assert len({config.recipe.model_copy(update={"seed": 0}) for config in configs}) == 1
    assert configs[0].sweep is None


def test_without_seeds_the_recipes_own_seed_is_played(tmp_path):
    stand = Stand(tmp_path)
    assert [config.recipe.seed for config in stand.begin().configs] == [0]


def test_values_that_do_not_fit_together_fail_and_the_sweep_goes_on(tmp_path):
    batch, rounds = "recipe.training.batch.selected", "recipe.policy.num_rounds"
    # a batch without selected rows is legal where there is one round alone
    space = {rounds: {"choices": [1, 5]}, batch: {"choices": [32, 0], "when": {rounds: [1, 5]}}}
    stand = Stand(tmp_path, space, trials=6)
    stand.study.enqueue({rounds: 5, batch: 0}, "warm")
    stand.study.enqueue({rounds: 5, batch: 32}, "warm")
    assert [stand.begin().number, stand.begin().number] == [0, 2]
    assert stand.states() == ["running", "failed", "running"]
    error = stand.trial(1).notes["error"]
    assert "recipe.training.batch.selected=0" in error
    assert "no later round would read the pool" in error
    (event,) = stand.told("trial_ended")
    assert (event["trial"], event["state"], event["error"]) == (1, "failed", error)
    with pytest.raises(ConfigError):
        stand.conductor.configs({rounds: 5, batch: 0})


# ---- how trials end


def test_a_trial_that_plays_its_last_round_is_complete_with_its_objective(tmp_path):
    stand = Stand(tmp_path)
    stand.play(0.5, 0.6, 0.7, 0.65, 0.66)
    trial = stand.trial(0)
    assert (trial.state, trial.values) == ("complete", (0.7,))
    assert trial.curve == dict(enumerate([0.5, 0.6, 0.7, 0.65, 0.66]))
    assert trial.notes["scores"] == [0.7]
    assert trial.notes["tests"] == [0.65]
    assert (trial.notes["rounds"], trial.notes["work_s"]) == (5, 2.0)
    (event,) = stand.told("trial_ended")
    assert (event["state"], event["values"]) == ("complete", [0.7])
    assert len(stand.told("trial_round")) == 5


def test_the_objective_is_the_mean_over_seeds(tmp_path):
    stand = Stand(tmp_path, seeds=[0, 1])
    number = stand.begin().number
    assert stand.conductor.heard(number, played(0, 0.5, 0.7))
    assert not stand.conductor.heard(number, played(1, 0.6, 0.9, finished=True))
    trial = stand.trial(number)
    assert trial.curve == pytest.approx({0: 0.6, 1: 0.75})
    assert trial.values == pytest.approx((0.75,))
    assert trial.notes["scores"] == [0.6, 0.9]
    assert trial.notes["seeds"] == [0, 1]
    assert trial.notes["work_s"] == 4.0


def test_a_trial_below_the_bar_is_pruned_after_a_whole_round(tmp_path):
    stand = Stand(tmp_path, pruning={"startup_trials": 2})
    for _ in range(2):
        stand.play(*level(0.8))
    number = stand.play(0.6, 0.6, 0.6)
    trial = stand.trial(number)
    assert (trial.state, trial.curve) == ("pruned", {0: 0.6, 1: 0.6})
    assert trial.notes["reason"].startswith("after round 1 the best is 0.6000")
    assert trial.notes["rounds"] == 2


def test_the_defaults_are_never_pruned_for_they_are_the_baseline(tmp_path):
    stand = Stand(tmp_path, pruning={"startup_trials": 1})
    first, second, third = (stand.begin().number for _ in range(3))
    stand.play(*level(0.9), number=second)
    stand.play(*level(0.9), number=third)
    stand.play(0.6, 0.4, 0.3, 0.3, 0.3, number=first)
    assert stand.states()[0] == "complete"


def test_a_collapsed_trial_is_pruned_with_its_reason_and_never_taken_up_again(tmp_path):
    stand = Stand(tmp_path, pruning={"rule": "none"})
    stand.play(*level(0.8))
    number = stand.begin().number
    assert stand.conductor.heard(number, played(0, 0.8, class_rows=(0, 100)))
    assert not stand.conductor.heard(number, played(1, 0.8, class_rows=(10, 90)))
    assert "class 1 holds 0.900" in stand.trial(number).notes["reason"]
    for _ in range(3):
        stand.play(*level(0.1))
    assert not any(trial.origin == "promoted" for trial in stand.study.trials())


def test_several_objectives_prune_collapses_only(tmp_path):
    objectives = ["score", "seconds", "pseudo_labels"]
    stand = Stand(tmp_path, objectives=objectives)
    for _ in range(5):
        stand.play(*level(0.9))
    assert stand.trial(0).values == (0.9, 2.0, 100.0)
    assert stand.trial(stand.play(*level(0.3))).state == "complete"
    fallen = stand.trial(stand.play(0.9, 0.5))
    assert (fallen.state, fallen.curve) == ("pruned", {})
    assert "fell from 0.9000" in fallen.notes["reason"]


def test_a_failed_trial_keeps_what_it_had_played(tmp_path):
    stand = Stand(tmp_path)
    number = stand.begin().number
    stand.conductor.heard(number, played(0, 0.5))
    stand.conductor.failed(number, "a row can't be decoded")
    trial = stand.trial(number)
    assert (trial.state, trial.notes["error"]) == ("failed", "a row can't be decoded")
    assert (trial.notes["rounds"], trial.notes["scores"]) == (1, [0.5])


def test_failed_trials_are_counted(tmp_path):
    stand = Stand(tmp_path, trials=3)
    for _ in range(3):
        stand.conductor.failed(stand.begin().number, "fell over")
    assert stand.conductor.propose() is None
    assert stand.states() == ["failed"] * 3


def test_known_and_screened_trials_are_not_counted(tmp_path):
    stand = Stand(tmp_path, trials=2)
    stand.study.add({SHARE: 0.3, RATE: 0.1}, "known", [0.9])
    stand.study.add({SHARE: 0.4, RATE: 0.1}, "screened", ())
    assert [stand.begin().number for _ in range(2)] == [0, 3]
    assert stand.conductor.propose() is None


# ---- pruned trials that should have gone on


def fallen_bar(tmp_path: Path, **sweep: Any) -> tuple[Stand, int]:
    """A sweep whose bar fell below a trial that was pruned at 0.6 after round 1."""
    stand = Stand(tmp_path, **{"pruning": {"startup_trials": 2}, "trials": 5, **sweep})
    begun = [stand.begin().number for _ in range(5)]
    stand.play(*level(0.8), number=begun[0])
    stand.play(*level(0.7), number=begun[1])
    pruned = stand.play(0.6, 0.6, number=begun[2])
    assert stand.trial(pruned).state == "pruned"
    # these are pruned after round 1, too, and the median of 0.8, 0.7, 0.5, 0.4 there is 0.6
    stand.play(0.5, 0.5, number=begun[3])
    stand.play(0.4, 0.4, number=begun[4])
    assert stand.states()[:5] == ["complete", "complete", "pruned", "pruned", "pruned"]
    return stand, pruned


def test_a_pruned_trial_is_taken_up_again_when_later_ones_lower_the_bar(tmp_path):
    stand, pruned = fallen_bar(tmp_path)
    task = stand.begin()
    again = stand.trial(task.number)
    assert (again.number, again.origin, again.state) == (5, "promoted", "running")
    assert again.chosen == stand.trial(pruned).chosen
    assert again.notes["promoted_from"] == pruned
    assert task.configs == stand.conductor.configs(stand.trial(pruned).chosen)
    assert [event["trial"] for event in stand.told("trial_promoted")] == [pruned]
    stand.play(0.6, 0.6, 0.8, 0.8, 0.8, number=task.number)
    assert stand.trial(task.number).state == "complete"


def test_a_trial_is_taken_up_once_and_does_not_count(tmp_path):
    stand, _ = fallen_bar(tmp_path)
    again = stand.begin().number
    assert stand.conductor.propose() is None
    stand.play(0.6, 0.6, 0.8, 0.8, 0.8, number=again)
    assert stand.conductor.propose() is None
    assert sum(trial.origin == "promoted" for trial in stand.study.trials()) == 1
    more = Stand(tmp_path, pruning={"startup_trials": 2}, trials=6)
    assert more.begin().number == 6
    assert more.conductor.propose() is None


def test_a_trial_that_is_taken_up_does_not_push_out_what_waits_before_it(tmp_path):
    """The queue holds more than was asked for: the trial goes on, the rest still waits."""
    stand = Stand(tmp_path, pruning={"startup_trials": 2}, trials=5)
    for i in range(7):
        stand.study.enqueue({SHARE: 0.2 + 0.1 * i, RATE: 0.1}, "warm")
    stand, pruned = fallen_bar(tmp_path)
    task = stand.begin()
    assert stand.trial(task.number).notes["promoted_from"] == pruned
    assert stand.conductor.propose() is None
    assert stand.states().count("waiting") == 3


def test_the_copy_of_a_trial_is_judged_by_others_and_never_by_itself(tmp_path):
    """Original and copy have one curve; counted as another trial it would hold the bar down."""
    stand, _ = fallen_bar(tmp_path)
    again = stand.begin().number
    # without itself the bar of round 2 has the two others that reached it: 0.8 and 0.7
    stand.play(0.6, 0.6, 0.6, number=again)
    trial = stand.trial(again)
    assert trial.state == "pruned"
    assert trial.notes["reason"].endswith("below 0.7500, the bar of median over 2 other trials")


def test_of_a_trial_and_its_copy_one_curve_counts_for_others_and_none_for_either(tmp_path):
    stand, pruned = fallen_bar(tmp_path)
    again = stand.begin().number
    stand.play(0.6, 0.6, 0.8, 0.8, 0.8, number=again)
    trials = stand.study.trials()
    bars = {n: _curves(trials, trials[n]) for n in (0, pruned, again)}
    assert [curve[1] for curve in bars[0]] == [0.7, 0.5, 0.4, 0.6]
    assert [curve[1] for curve in bars[pruned]] == [0.8, 0.7, 0.5, 0.4]
    assert bars[again] == bars[pruned]


def test_a_trial_that_waits_to_be_taken_up_is_not_lost_by_a_restart(tmp_path):
    stand, pruned = fallen_bar(tmp_path)
    stand.study.enqueue(stand.trial(pruned).chosen, "promoted", promoted_from=pruned)
    again = Stand(tmp_path, pruning={"startup_trials": 2}, trials=5)
    assert again.begin().number == 5
    assert again.trial(5).origin == "promoted"
    assert again.conductor.propose() is None


# ---- restarts


def test_after_reopening_nothing_is_counted_or_told_twice(tmp_path):
    stand = Stand(tmp_path, trials=3)
    stand.play(*level(0.7))
    running = stand.begin()
    stand.conductor.heard(running.number, played(0, 0.6))
    stand.tracker.close()
    again = Stand(tmp_path, trials=3)
    task = again.begin()
    assert (task.number, task.configs) == (running.number, running.configs)
    again.play(0.6, 0.65, 0.65, 0.65, 0.65, number=task.number)
    assert again.trial(task.number).curve == {0: 0.6, 1: 0.65, 2: 0.65, 3: 0.65, 4: 0.65}
    assert again.begin().number == 2
    assert again.conductor.propose() is None
    assert again.states() == ["complete", "complete", "running"]


def test_rounds_that_are_played_again_are_not_judged_by_what_came_since(tmp_path):
    """Its record would say that it ended after round 0, with the score of round 0."""
    sweep = {"trials": 4, "pruning": {"startup_trials": 2}}
    stand = Stand(tmp_path, **sweep)
    begun = [stand.begin().number for _ in range(4)]
    for round_ in range(3):
        assert stand.conductor.heard(begun[3], played(round_, 0.6))
    for number in begun[:3]:
        stand.play(*level(0.8), number=number)
    again = Stand(tmp_path, **sweep)
    assert again.begin().number == begun[3]
    assert again.conductor.heard(begun[3], played(0, 0.6))
    assert again.conductor.heard(begun[3], played(1, 0.6))
    assert not again.conductor.heard(begun[3], played(2, 0.6))
    assert again.trial(begun[3]).notes["rounds"] == 3


def test_more_trials_go_on_from_where_a_finished_sweep_stands(tmp_path):
    first = Stand(tmp_path, trials=2)
    first.play(*level(0.7))
    first.play(*level(0.7))
    assert first.conductor.propose() is None
    more = Stand(tmp_path, trials=3)
    assert more.begin().number == 2
    assert more.conductor.propose() is None


def test_defaults_that_were_interrupted_are_still_the_baseline(tmp_path):
    Stand(tmp_path, trials=1).begin()
    stand = Stand(tmp_path, trials=3, pruning={"startup_trials": 1})
    first, second, third = (stand.begin().number for _ in range(3))
    stand.play(*level(0.9), number=second)
    stand.play(*level(0.9), number=third)
    stand.play(*level(0.4), number=first)
    assert stand.states() == ["complete"] * 3


# ---- the end


def test_when_the_time_is_over_no_trial_starts_and_running_ones_stop_after_their_round(tmp_path):
    late = Stand(tmp_path, most_s=1e-9)
    assert late.conductor.closing()
    assert late.conductor.propose() is None
    assert late.states() == ["waiting"]
    stand = Stand(tmp_path, most_s=3600)
    assert not stand.conductor.closing()
    assert stand.begin().number == 0


def test_a_wish_to_stop_ends_trials_after_their_round_and_leaves_them_running(tmp_path):
    asked = False
    stand = Stand(tmp_path, stopping=lambda: asked)
    number = stand.begin().number
    assert stand.conductor.heard(number, played(0, 0.5))
    asked = True
    assert not stand.conductor.heard(number, played(1, 0.5))
    assert stand.conductor.propose() is None
    assert stand.states() == ["running"]
    assert stand.told("trial_ended") == []


def test_a_last_round_that_comes_while_stopping_still_completes_its_trial(tmp_path):
    asked = False
    stand = Stand(tmp_path, stopping=lambda: asked)
    number = stand.begin().number
    asked = True
    assert not stand.conductor.heard(number, played(4, 0.5, finished=True))
    assert stand.states() == ["complete"]


def test_only_finished_steps_of_trials_reach_the_log(tmp_path):
    stand = Stand(tmp_path)
    stand.conductor.tell(3, "step_started", round=0, step="train")
    stand.conductor.tell(3, "step_finished", round=0, step="train", seed=0)
    (event,) = [event for event in read_events(tmp_path) if event["event"].startswith("trial_")]
    assert (event["event"], event["trial"], event["step"]) == ("trial_step", 3, "train")
