"""The study of a sweep: an Optuna study in a journal file, whose states are true. Optuna's door.

A journal is appended to under a lock made of a link, which holds on NFS; it is JSON, never pickle.
Only the sweep's driver writes it. A trial that a killed driver left RUNNING is proposed again under
its own number and with its own parameters, so none is lost and none is counted twice.
"""

import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.errors import StoreError
from orchestrator.sweep.dimensions import Choices, Dimension
from orchestrator.sweep.journal import JOURNAL, mend
from orchestrator.sweep.space import Chosen, Space
from orchestrator.sweep.spec import MAXIMISED, Sampler, SweepSpec
from orchestrator.tracking.secrets import redact
from trainables.randomness import derive

log = logging.getLogger(__name__)
Origin = Literal["defaults", "sampler", "grid", "screened", "warm", "promoted", "follower"]
State = Literal["waiting", "running", "complete", "pruned", "failed", "screened", "known"]
_ONCE: frozenset[Origin] = frozenset({"defaults", "grid", "screened", "warm", "follower"})
_STATES: Mapping[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Proposal:
    """A trial to play."""

    number: int
    """Number of the trial in the study."""
    chosen: dict[str, Any]
    """Values by path."""
    origin: Origin
    """Who proposed it."""


@dataclass(frozen=True)
class Trial:
    """A trial as decisions and reports see it."""

    number: int
    state: State
    """'screened': judged on stored predictions only; 'known': taken over from another sweep."""
    origin: Origin
    chosen: dict[str, Any]
    curve: dict[int, float]
    """Validation score by round, mean over seeds."""
    values: tuple[float, ...]
    """Objectives; of a pruned trial its last validation score."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else is known: seconds, score of each seed, reason, error."""
    foreign: tuple[str, ...] = ()
    """Parameters that it was played with and that this space does not have."""


class Study:
    """Proposes trials and remembers what became of them."""

    def __init__(self, folder: Path, name: str, spec: SweepSpec, space: Space) -> None:
        """Open the study in a folder, or begin it.

        Raises:
            StoreError: The journal can't be read.
        """
        _quieten()
        folder.mkdir(parents=True, exist_ok=True)
        self._space, self._spec = space, spec
        self._standing: set[str] | None = None
        ways = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        directions = [ways[name not in MAXIMISED] for name in spec.objectives]
        try:
            mend(folder / JOURNAL)  # under the lease of the sweep
            storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
            self._study = optuna.create_study(
                storage=storage, study_name=name, directions=directions, load_if_exists=True
            )
        except (ValueError, KeyError, OSError) as error:
            raise StoreError(f"{folder / JOURNAL} can't be read as a study: {error}") from error
        begun = len(self._study.get_trials(deepcopy=False))
        seed = derive(spec.sampler_seed, "sampler", begun) % 2**32  # other draws after a restart
        self._study.sampler = make_sampler(spec.sampler, seed)
        if not self._study.metric_names:
            self._study.set_metric_names(list(spec.objectives))

    def unfinished(self) -> list[Proposal]:
        """Trials that a driver before this one began and did not end, in order."""
        states = (TrialState.RUNNING,)
        left = self._study.get_trials(deepcopy=False, states=states)
        return [self._propose(optuna.trial.Trial(self._study, t._trial_id)) for t in left]

    def next(self) -> Proposal:
        """The next trial: one that waits in the queue, else what the sampler proposes."""
        return self._propose(self._study.ask())

    def take(self, number: int) -> Proposal:
        """A trial that waits in the queue, before its turn."""
        trial_id = self._frozen(number)._trial_id
        self._study._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return self._propose(optuna.trial.Trial(self._study, trial_id))

    def _propose(self, trial: optuna.trial.Trial) -> Proposal:
        fixed = self._frozen(trial.number).system_attrs.get("fixed_params")
        chosen: dict[str, Any] = {}
        for dimension in self._space.dimensions:
            if not self._space.exists(dimension, chosen):
                continue
            name = _name(dimension)
            if fixed is not None and name not in fixed:
                continue  # a default that the space can't hold stays as the config has it
            chosen[dimension.path] = _decode(dimension, trial._suggest(name, _drawn(dimension)))
        chosen |= trial.user_attrs.get("course", {})
        return Proposal(trial.number, chosen, trial.user_attrs.get("origin", "sampler"))

    def enqueue(self, chosen: Chosen, origin: Origin, **notes: Any) -> None:
        """Put a trial at the end of the queue; the same from the same source only once."""
        params = {
            _name(d): _encode(d, chosen[d.path]) for d in self._space.dimensions if d.path in chosen
        }
        if origin in _ONCE and self._stands(origin, params):
            return
        self._study.enqueue_trial(params, user_attrs={"origin": origin, **notes})

    def add(self, chosen: Chosen, state: State, values: Sequence[float], **notes: Any) -> None:
        """Record a trial that nobody played here, once: 'screened' without values, or 'known'."""
        drawn = {d.path: d for d in self._space.dimensions if d.path in chosen}
        params = {_name(d): _encode(d, chosen[path]) for path, d in drawn.items()}
        if self._stands(state, params):
            return
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if state == "known" else TrialState.PRUNED,
                values=list(values) if state == "known" else None,
                params=params,
                distributions={_name(d): _drawn(d) for d in drawn.values()},
                user_attrs={"state": state, **notes},
            )
        )

    def _stands(self, what: str, params: Mapping[str, Any]) -> bool:
        """Whether this stood here, so that a queue that a kill cut short can be filled again."""
        if self._standing is None:
            trials = self._study.get_trials(deepcopy=False)
            self._standing = {
                _key(t.user_attrs.get(name), params)
                for t in trials
                for name, params in (
                    ("origin", t.system_attrs.get("fixed_params")),
                    ("state", t.params),
                )
            }
        key, before = _key(what, params), len(self._standing)
        self._standing.add(key)
        return len(self._standing) == before

    def report(self, number: int, round_: int, score: float) -> None:
        """Tell a trial's validation score after a round; a second time changes nothing."""
        frozen = self._frozen(number)
        if self._spec.follows_score and round_ not in frozen.intermediate_values:
            optuna.trial.Trial(self._study, frozen._trial_id).report(score, round_)

    def complete(self, number: int, values: Sequence[float], **notes: Any) -> None:
        """End a trial with its objectives; values that are no numbers make it a failure."""
        if any(math.isnan(value) for value in values):
            self.fail(number, f"the objectives are {list(values)}", **notes)
            return
        self._note(number, notes)
        self._study.tell(number, list(values))

    def prune(self, number: int, reason: str, **notes: Any) -> None:
        """End a trial early; Optuna keeps its last reported value."""
        self._note(number, {"reason": reason, **notes})
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, error: str, **notes: Any) -> None:
        """End a trial that could not be played."""
        self._note(number, {"error": error, **notes})
        self._study.tell(number, state=TrialState.FAIL)

    def _note(self, number: int, notes: Mapping[str, Any]) -> None:
        trial_id = self._frozen(number)._trial_id
        for name, value in notes.items():
            self._study._storage.set_trial_user_attr(trial_id, name, redact(value))

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def trials(self) -> list[Trial]:
        """All trials in order of their numbers."""
        return [self._trial(frozen) for frozen in self._study.get_trials(deepcopy=False)]

    def _trial(self, frozen: FrozenTrial) -> Trial:
        params = frozen.params or frozen.system_attrs.get("fixed_params", {})
        chosen = {
            d.path: _decode(d, params[_name(d)])
            for d in self._space.dimensions
            if _name(d) in params
        }
        chosen |= frozen.user_attrs.get("course", {})
        return Trial(
            number=frozen.number,
            state=frozen.user_attrs.get("state", _STATES[frozen.state]),
            origin=frozen.user_attrs.get("origin", "sampler"),
            chosen=chosen,
            curve=dict(frozen.intermediate_values),
            values=tuple(frozen.values or ()),
            notes=dict(frozen.user_attrs),
            foreign=tuple(params.keys() - {_name(d) for d in self._space.dimensions}),
        )

    def remember(self, name: str, value: Any) -> None:
        """Keep something about the whole study."""
        self._study.set_user_attr(name, value)

    def remembered(self, name: str) -> Any:
        """What was kept under this name; None if nothing was."""
        return self._study.user_attrs.get(name)

    def importances(self) -> dict[str, float]:
        """How much of the first objective's spread each parameter explains; empty if unknown."""
        target = None if len(self._spec.objectives) == 1 else self._cost
        try:
            with _too_few_is_an_error():
                return optuna.importance.get_param_importances(self._study, target=target)
        except (ValueError, RuntimeError, ZeroDivisionError, UserWarning) as error:
            log.info("no importances: %s", error)
            return {}

    def _cost(self, trial: FrozenTrial) -> float:
        """The first objective, the smaller the better, as importances read a target."""
        return (-1 if self._spec.objectives[0] in MAXIMISED else 1) * _first_value(trial)

    def figures(self) -> list[tuple[str, Any]]:
        """Optuna's plots with their titles; those that the study can't fill are left out."""
        from optuna import visualization as plots

        if not self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return []  # Optuna would warn and draw empty axes
        several = len(self._spec.objectives) > 1
        name = {"target_name": self._spec.objectives[0]}
        one = {"target": _first_value, **name} if several else {}
        cost = {"target": self._cost, **name} if several else {}
        wanted: list[tuple[str, Any, dict[str, Any]]] = [
            ("History", plots.plot_optimization_history, one),
            ("Rounds", plots.plot_intermediate_values, {}),
            ("Parallel coordinates", plots.plot_parallel_coordinate, one),
            ("Slices", plots.plot_slice, one),
            ("Importances", plots.plot_param_importances, cost),
            ("Timeline", plots.plot_timeline, {}),
        ]
        if several:
            wanted[1] = ("Pareto front", plots.plot_pareto_front, {})
        figures = []
        for title, plot, options in wanted:
            try:
                with _too_few_is_an_error():
                    figures.append((title, plot(self._study, **options)))
            except (ValueError, RuntimeError, ZeroDivisionError, UserWarning) as error:
                log.info("no plot %s: %s", title, error)
        return figures


def make_sampler(name: Sampler, seed: int) -> BaseSampler:
    """The sampler of this name; a grid is a queue, so its sampler is never asked."""
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, group=True, multivariate=True)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    if name == "cma_es":
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
    return optuna.samplers.RandomSampler(seed=seed)


def draw(space: Space, seed: int, number: int) -> Iterator[dict[str, Any]]:
    """Values drawn at random from a space; no study hears of them."""
    _quieten()
    drawer = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(number):
        chosen: dict[str, Any] = {}
        trial = drawer.ask()
        for dimension in space.dimensions:
            if space.exists(dimension, chosen):
                value = trial._suggest(_name(dimension), _drawn(dimension))
                chosen[dimension.path] = _decode(dimension, value)
        drawer.tell(trial, state=TrialState.FAIL)
        yield chosen


def read_trials(folder: Path, space: Space) -> list[Trial]:
    """The trials of a finished or running sweep, read by another one.

    Raises:
        StoreError: The folder holds no study, or more than one.
    """
    path = folder / JOURNAL
    if not path.is_file():
        raise StoreError(f"{folder} holds no sweep: there is no {JOURNAL}")
    storage = JournalStorage(JournalFileBackend(str(path)))
    (name,) = optuna.get_all_study_names(storage)
    other = Study.__new__(Study)
    other._study, other._space = optuna.load_study(storage=storage, study_name=name), space
    return other.trials()


def _quieten() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@contextmanager
def _too_few_is_an_error() -> Iterator[None]:
    """Optuna warns of too few trials and then gives every parameter the same importance."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*importances will be equal.*")
        warnings.filterwarnings("ignore", message=".*to achieve low `target` values.*")
        warnings.filterwarnings("ignore", message=".*Some regimes for parameter.*")
        yield


def _first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _key(what: str | None, params: Mapping[str, Any] | None) -> str:
    """One text for a trial's source and values."""
    return json.dumps([what, params], sort_keys=True)


def _name(dimension: Dimension) -> str:
    """The parameter's name in the study."""
    mirrored = getattr(dimension.parameter, "scale", "") == "one_minus_log"
    return f"1 - {dimension.path}" if mirrored else dimension.path


def _drawn(dimension: Dimension) -> BaseDistribution:
    """What Optuna draws from."""
    parameter = dimension.parameter
    if isinstance(parameter, Choices):
        return CategoricalDistribution([_text(choice) for choice in parameter.choices])
    low, high = parameter.low, parameter.high
    if parameter.scale == "one_minus_log":
        return FloatDistribution(1 - high, 1 - low, log=True)
    if dimension.whole:
        step = int(parameter.step or 1)
        return IntDistribution(int(low), int(high), log=parameter.scale == "log", step=step)
    return FloatDistribution(low, high, log=parameter.scale == "log", step=parameter.step)


def _encode(dimension: Dimension, value: Any) -> Any:
    """A value as the study holds it."""
    if isinstance(dimension.parameter, Choices):
        return _text(value)
    if dimension.parameter.scale == "one_minus_log":
        low, high = 1 - dimension.parameter.high, 1 - dimension.parameter.low
        return min(high, max(low, 1 - value))
    return value


def _decode(dimension: Dimension, value: Any) -> Any:
    """The value that the study holds, as the config has it."""
    if isinstance(dimension.parameter, Choices):
        return {_text(each): each for each in dimension.parameter.choices}.get(value, value)
    # as many digits as people write: 0.1, not 1 - (1 - 0.1), would be another run
    if dimension.parameter.scale == "one_minus_log":
        return round(1 - value, 15)
    return float(f"{value:.12g}") if dimension.parameter.step and not dimension.whole else value


def _text(choice: Any) -> Any:
    """A choice that Optuna can hold: schedules and lists become their JSON text."""
    plain = isinstance(choice, str | int | float | bool) or choice is None
    return choice if plain else json.dumps(choice, sort_keys=True)
