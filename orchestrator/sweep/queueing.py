"""What a sweep plays first: defaults, an older sweep's trials, a grid, screened candidates."""

import time
from functools import cache, partial
from typing import Any

from orchestrator.console import Console
from orchestrator.errors import ConfigError
from orchestrator.play import Player
from orchestrator.recipe import Recipe
from orchestrator.runs import begin_record, data_digest
from orchestrator.session import make_engine
from orchestrator.signals import StopRequest
from orchestrator.store.store import Store
from orchestrator.sweep.display import SweepWatch
from orchestrator.sweep.opening import Sweep
from orchestrator.sweep.record import find_sweep, load_sweep
from orchestrator.sweep.screening import best, gather_evidence, screen
from orchestrator.sweep.spec import MAXIMISED, SweepSpec
from orchestrator.sweep.study import Study, draw, read_trials
from orchestrator.tracking.tracker import Tracker

CHOOSING = ("recipe.selector", "recipe.calibrators")
"""Where settings lie that change what is selected."""
WARM_STARTS = 5
"""Best trials of an older sweep that are proposed anew where their value can't be taken over."""


def fill_queue(
    sweep: Sweep,
    study: Study,
    tracker: Tracker,
    console: Console,
    stop: StopRequest,
    warm_from: str | None,
) -> SweepSpec:
    """Fill the study's queue once: defaults, an older sweep's trials, a grid, screened candidates.

    Returns the sweep's spec with as many trials as a grid has points, unless a number was given.
    """
    spec, defaults = sweep.spec, sweep.space.defaults()
    if not study.remembered("queued"):
        study.enqueue(defaults, "defaults")
        study.remember("queued", value=True)
    if warm_from is not None and study.remembered("warm_from") != warm_from:
        _take_over(sweep, study, console, warm_from)
        study.remember("warm_from", warm_from)
    if spec.sampler == "grid":
        points = [p for p in sweep.space.grid() if p != defaults]
        if not study.remembered("grid"):
            for point in points:
                study.enqueue(point, "grid")
            study.remember("grid", value=True)
        if spec.trials is None:
            spec = spec.model_copy(update={"trials": len(points) + 1})
    if spec.screen is not None and not study.remembered("screened"):
        _screen(sweep, study, tracker, console, stop)
        study.remember("screened", value=True)
    return spec


def _take_over(sweep: Sweep, study: Study, console: Console, name: str) -> None:
    """Use an older sweep: exact values where a trial would be the same run, else proposals."""
    old = find_sweep(sweep.config.runs, name)
    trials = [t for t in read_trials(old, sweep.space) if t.state == "complete"]
    known, proposed = 0, 0
    record = load_sweep(old)
    theirs = record.config.sweep or SweepSpec()
    same_base = (
        record.config.recipe == sweep.config.recipe
        and record.data == data_digest(sweep.data)
        and theirs.seeds == sweep.spec.seeds
        and theirs.objectives == sweep.spec.objectives
    )
    sign = -1 if theirs.objectives[0] in MAXIMISED else 1
    for trial in sorted(trials, key=lambda t: sign * t.values[0]):
        fits = all(
            d.contains(trial.chosen[d.path])
            for d in sweep.space.dimensions
            if d.path in trial.chosen
        )
        whole = {d.path for d in sweep.space.dimensions if sweep.space.exists(d, trial.chosen)}
        if not fits or whole != set(trial.chosen):
            continue
        if same_base and not trial.foreign:
            notes = {k: v for k, v in trial.notes.items() if k not in ("origin", "state")}
            study.add(trial.chosen, "known", trial.values, taken_from=old.name, **notes)
            known += 1
        elif proposed < WARM_STARTS:
            study.enqueue(trial.chosen, "warm", taken_from=old.name)
            proposed += 1
    console.say(
        f"from {old.name}: {known} trials are known, {proposed} are proposed anew"
        if known or proposed
        else f"from {old.name}: none of its {len(trials)} finished trials fits this space"
    )


def _screen(
    sweep: Sweep, study: Study, tracker: Tracker, console: Console, stop: StopRequest
) -> None:
    """Judge candidates on the predictions of the defaults' round 0 and queue the best."""
    spec = sweep.spec
    if spec.screen is None:
        raise AssertionError("screening was not asked for")
    if not isinstance(sweep.config.recipe, Recipe):
        raise ConfigError("sweep.screen judges labels that are classes: set it to null")
    if not any(each.path.startswith(CHOOSING) for each in sweep.space.dimensions):
        raise ConfigError(
            f"sweep.screen: no searched field is part of {' or '.join(CHOOSING)}, so all "
            "candidates would select alike: leave screen out, or search the selector"
        )
    seed = (spec.seeds or (sweep.config.recipe.seed,))[0]
    base = sweep.played.config(sweep.space.defaults())
    base = base.model_copy(
        update={
            "recipe": base.recipe.model_copy(update={"seed": seed}),
            "placement": sweep.config.placement,
        }
    )
    teller = _AsTrial(tracker, "screen", seed)
    watch = SweepWatch(console, stop)
    engine = make_engine(base.placement)
    try:
        player = Player(base, sweep.data, Store(base.store), engine, teller, watch)
        record = next(player.play(begin_record(base, sweep.data)))
        gather_evidence(record)  # what can't be screened at all is told, not counted
    finally:
        engine.close()
    evidence_behind = cache(partial(gather_evidence, record))
    began = time.perf_counter()
    drawn, judged, refused = [], [], 0
    for chosen in draw(sweep.space, spec.sampler_seed, spec.screen.candidates):
        try:
            recipe = sweep.played.config(chosen).recipe
            assert isinstance(recipe, Recipe)  # noqa: S101 - there would be no evidence
            judged.append(screen(recipe, evidence_behind(recipe.calibrators)))
        except (ConfigError, ValueError):
            refused += 1  # values that do not fit together, or a selector without its evidence
            continue
        drawn.append(chosen)
    kept = best(judged, spec.screen.keep)
    seconds = time.perf_counter() - began
    for i, (chosen, found) in enumerate(zip(drawn, judged, strict=True)):
        if i not in kept:
            study.add(chosen, "screened", (), fidelity=0, screened=found.plain())
    for i in kept:
        study.enqueue(drawn[i], "screened", screened=judged[i].plain())
    tracker.emit(
        "screened", candidates=len(drawn), refused=refused, kept=len(kept), seconds=seconds
    )
    told = f", {refused} refused" if refused else ""
    console.say(
        f"screened {len(drawn):,} candidates in {seconds:.1f} s "
        f"({60 * len(drawn) / max(1e-9, seconds):,.0f} a minute{told}); the best {len(kept)} go on"
    )


class _AsTrial:
    """Takes the events of work that the sweep does itself into its log."""

    def __init__(self, tracker: Tracker, trial: str, seed: int) -> None:
        self._tracker, self._trial, self._seed = tracker, trial, seed

    def emit(self, name: str, **fields: Any) -> None:
        if name == "step_finished":
            self._tracker.emit("trial_step", trial=self._trial, seed=self._seed, **fields)
