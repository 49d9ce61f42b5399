"""The one owner of a sweep's decisions: which trial is next, which goes on, how each one ended.

Whoever plays the trials, Ray Tune or this process, asks here and tells here; nothing else writes
to the study.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.sweep.population import follow, leader_of
from orchestrator.sweep.pruning import GO_ON, Verdict, collapse, judge
from orchestrator.sweep.space import Space
from orchestrator.sweep.spec import Population, SweepSpec
from orchestrator.sweep.study import Proposal, Study, Trial
from orchestrator.sweep.trial import TrialRound
from orchestrator.tracking.tracker import Tracker
from trainables.randomness import derive

UNCOUNTED = ("screened", "known", "waiting")
SUCCESSORS = ("promoted", "follower")
"""Origins of trials that go on in the place of an earlier one and so are not counted again."""


@dataclass(frozen=True)
class Task:
    """A trial to play: its number and one run for each seed."""

    number: int
    configs: tuple[RunConfig, ...]


class Conductor:
    """Decides; plays nothing itself."""

    def __init__(
        self,
        spec: SweepSpec,
        space: Space,
        study: Study,
        tracker: Tracker,
        labelled_rows: tuple[int, ...],
        stopping: Callable[[], bool],
    ) -> None:
        self._spec, self._space, self._study = spec, space, study
        self._tracker, self._stopping = tracker, stopping
        self._labelled_rows = labelled_rows
        self._ends_at = None if spec.most_s is None else time.monotonic() + spec.most_s
        self._left = study.unfinished()
        self._origins: dict[int, str] = {}
        self._over: set[int] = set()
        self._newest: dict[int, TrialRound] = {}
        self._heard: dict[int, dict[int, float]] = {}

    def closing(self) -> bool:
        """Whether no trial should start and running ones should stop after their round."""
        late = self._ends_at is not None and time.monotonic() >= self._ends_at
        return late or self._stopping()

    def playing(self) -> list[int]:
        """Numbers of the trials that were proposed and have not ended."""
        return sorted(self._origins.keys() - self._over)

    def propose(self) -> Task | None:
        """The next trial to play; None if there is none (left, or before others end)."""
        while not self.closing():
            proposal = self._left.pop(0) if self._left else self._next()
            if proposal is None:
                return None
            self._origins[proposal.number] = proposal.origin
            about = {"trial": proposal.number, "origin": proposal.origin}
            try:
                configs = self.configs(proposal.chosen)
            except ConfigError as error:
                self._tracker.emit("trial_started", **about, chosen=proposal.chosen)
                self.failed(proposal.number, str(error))
                continue
            recipe = configs[0].recipe.plain()
            self._tracker.emit("trial_started", **about, chosen=proposal.chosen, recipe=recipe)
            return Task(proposal.number, configs)
        return None

    def configs(self, chosen: dict[str, Any]) -> tuple[RunConfig, ...]:
        """The runs of a trial, one for each seed.

        Raises:
            ConfigError: The values do not fit together.
        """
        config = self._space.config(chosen)
        seeds = self._spec.seeds or (config.recipe.seed,)
        return tuple(
            config.model_copy(update={"recipe": config.recipe.model_copy(update={"seed": seed})})
            for seed in seeds
        )

    def _next(self) -> Proposal | None:
        trials = self._study.trials()
        begun = [t for t in trials if t.state not in UNCOUNTED and t.origin not in SUCCESSORS]
        promoted = next((t for t in trials if self._deserves_more(t, trials)), None)
        if promoted is not None:
            note = {"promoted_from": promoted.number}
            self._study.enqueue(promoted.chosen, "promoted", **note)
            self._tracker.emit("trial_promoted", trial=promoted.number)
            trials = self._study.trials()
        waiting = (t.number for t in trials if t.state == "waiting" and t.origin in SUCCESSORS)
        if (number := next(waiting, None)) is not None:
            return self._study.take(number)  # it counts for none of the others in the queue
        return self._study.next() if len(begun) < self._spec.num_trials else None

    def _deserves_more(self, trial: Trial, trials: list[Trial]) -> bool:
        """Whether a pruned trial would go on by what is known today: its steps are in the store."""
        if trial.state != "pruned" or "collapsed" in trial.notes.get("reason", ""):
            return False
        if self._spec.population is not None:
            return False  # another one has gone on in its place
        if any(t.notes.get("promoted_from") == trial.number for t in trials):
            return False
        num_rounds = self._space.config(trial.chosen).recipe.policy.num_rounds
        others = _curves(trials, trial)
        now = judge(self._spec.pruner, trial.number, trial.curve, others, num_rounds)
        return not now.ends

    def heard(self, number: int, outcome: TrialRound) -> bool:
        """Take a trial's round; whether the trial should play another one."""
        self._newest[number] = outcome
        self._heard.setdefault(number, {})[outcome.round] = outcome.score
        self._study.report(number, outcome.round, outcome.score)
        self._tracker.emit("trial_round", trial=number, **outcome.plain())
        if outcome.finished:
            values = [outcome.objective(name) for name in self._spec.objectives]
            self._study.complete(number, values, **_notes(outcome))
            self._ended(number, "complete", values=values)
            return False
        verdict = self._verdict(number, outcome)
        if verdict.ends:
            self._study.prune(number, verdict.reason, **_notes(outcome))
            self._ended(number, "pruned", reason=verdict.reason)
            return False
        return not self.closing()

    def _verdict(self, number: int, outcome: TrialRound) -> Verdict:
        if self._origins.get(number) == "defaults":
            return GO_ON  # the baseline of the report
        trials = self._study.trials()
        mine, pruning = trials[number], self._spec.pruner
        if outcome.round < max(mine.curve, default=0):
            return GO_ON  # played again after a restart: it was judged when it got there
        heard = self._heard[number]  # the study keeps no curve of several objectives
        found = collapse(pruning, heard, outcome.class_rows, self._labelled_rows)
        if found.ends or not self._spec.follows_score:
            return found
        if self._spec.population is not None:
            return self._follow(self._spec.population, mine, trials, outcome.round)
        num_rounds = self._space.config(mine.chosen).recipe.policy.num_rounds
        return judge(pruning, number, mine.curve, _curves(trials, mine), num_rounds)

    def _follow(
        self, population: Population, mine: Trial, trials: list[Trial], round_: int
    ) -> Verdict:
        """Whether a trial lags behind; then another one goes on in its place."""
        if round_ <= mine.notes.get("at_round", self._spec.pruner.first_round - 1):
            return GO_ON  # the leader's rounds, from the store
        at_round = {
            t.number: t.curve[round_]
            for t in trials
            if round_ in t.curve and t.notes.get("at_round", -1) < round_
        }
        if len(at_round) <= self._spec.pruner.startup_trials:
            return GO_ON
        seed = derive(self._spec.sampler_seed, "population", mine.number, round_)
        draw = np.random.default_rng(seed)
        leader = leader_of(population, mine.number, at_round, draw)
        if leader is None:
            return GO_ON
        chosen = trials[leader].chosen
        follower = follow(population, self._space, leader, chosen, round_, draw)
        notes = {"course": follower.course, "at_round": round_, "leader": leader}
        self._study.enqueue(follower.chosen, "follower", **notes)
        return Verdict(
            ends=True,
            reason=f"lags behind after round {round_}: a follower of trial {leader} goes on",
        )

    def failed(self, number: int, error: str) -> None:
        """Take note that a trial can't be played."""
        newest = self._newest.get(number)
        self._study.fail(number, error, **(_notes(newest) if newest else {}))
        self._ended(number, "failed", error=error)

    def _ended(self, number: int, state: str, **fields: Any) -> None:
        self._over.add(number)
        self._tracker.emit("trial_ended", trial=number, state=state, **fields)

    def tell(self, number: int, name: str, **fields: Any) -> None:
        """Take an event of a trial's run into the sweep's log."""
        if name == "step_finished":
            self._tracker.emit("trial_step", trial=number, **fields)
        elif name == "step_waits":
            self._tracker.emit("trial_waits", trial=number, **fields)


def _curves(trials: list[Trial], without: Trial) -> list[dict[int, float]]:
    """The curves of all other trials; of a promoted one only the longer copy counts."""
    replaced = {t.notes.get("promoted_from") for t in trials}
    same = without.notes.get("promoted_from")
    return [
        t.curve
        for t in trials
        if t.curve
        and t.number not in (without.number, same)
        and t.number not in replaced
        and t.notes.get("promoted_from") != without.number
    ]


def _notes(outcome: TrialRound) -> dict[str, Any]:
    """What the study keeps of a trial beside its objectives."""
    return {
        "seeds": [s.seed for s in outcome.seeds],
        "scores": [s.delivered for s in outcome.seeds],
        "tests": [s.test for s in outcome.seeds],
        "best_rounds": [s.best_round for s in outcome.seeds],
        "pseudo_labels": fmean(s.pseudo_labels for s in outcome.seeds),
        "work_s": sum(s.work_s for s in outcome.seeds),
        "rounds": outcome.round + 1,
    }
