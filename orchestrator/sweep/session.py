"""One sweep from start to end: its lease, study, queue, trials, and what it leaves behind."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from orchestrator import ray_session
from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.data.dataset import Dataset
from orchestrator.errors import (
    AllFailedError,
    ConfigError,
    Interrupted,
    LostWorkError,
    SelftrainError,
)
from orchestrator.noise import native_noise_to
from orchestrator.play import Player
from orchestrator.ray_session import Cluster
from orchestrator.runs import begin_record, data_digest
from orchestrator.session import make_engine
from orchestrator.signals import StopRequest
from orchestrator.store.files import Files
from orchestrator.store.lease import Lease
from orchestrator.store.store import Store
from orchestrator.sweep.accounting import account_of
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.display import SweepLines
from orchestrator.sweep.leaderboard import best_of, leaderboard
from orchestrator.sweep.record import (
    RECORD,
    SweepRecord,
    find_sweep,
    load_sweep,
    save_sweep,
    sweep_id,
)
from orchestrator.sweep.report import report_html
from orchestrator.sweep.resources import Need, need_of, room_for, trial_placement
from orchestrator.sweep.screening import best, gather_evidence, screen
from orchestrator.sweep.space import Space, resolve_space
from orchestrator.sweep.spec import MAXIMISED, SweepSpec
from orchestrator.sweep.study import Study, draw, read_trials
from orchestrator.sweep.trial import TrialPlayer
from orchestrator.tracking.secrets import redact
from orchestrator.tracking.tracker import Tracker, read_events
from orchestrator.tracking.wandb_projection import SweepProjection
from orchestrator.watch import Silent

WARM_STARTS = 5
"""Best trials of an older sweep that are proposed anew where their value can't be taken over."""


@dataclass(frozen=True)
class Sweep:
    """Everything that one sweep is played with."""

    name: str
    config: RunConfig
    """As the user has it."""
    space: Space
    """Over the user's config."""
    played: Space
    """The same over what trials are given: absolute paths and their placement."""
    data: Dataset
    folder: Path

    @property
    def spec(self) -> SweepSpec:
        return self.config.sweep or SweepSpec()


def open_sweep(config: RunConfig) -> Sweep:
    """A sweep before anything starts.

    Raises:
        ConfigError: The search space has faults; all of them are listed.
        DataError: The data set can't be read.
    """
    space, data, store = resolve_space(config), Dataset(config.data), Store(config.store)
    placement = trial_placement(config.placement)
    played = space.over(data=data.root, store=store.root, placement=placement)
    name = sweep_id(config, space, data)
    return Sweep(name, config, space, played, data, config.runs / name)


def play_sweep(
    config: RunConfig,
    console: Console,
    stop: StopRequest,
    *,
    warm_from: str | None = None,
    wait: bool = True,
) -> tuple[SweepRecord, Path]:
    """Play a sweep to its end, or go on with it; its record and its folder.

    Raises:
        Interrupted: Stopped on request; the same command goes on.
        InfeasibleError: Not even one trial fits the cluster.
        AllFailedError: No trial could be played.
        SelftrainError: The sweep can't be played; the error says what to do.
    """
    sweep = open_sweep(config)
    lease = Lease(
        Files(sweep.folder),
        "lease.json",
        what=f"sweep {sweep.name}",
        wait=wait,
        told=console.say,
        stopping=stop.asked,
    )
    with lease:
        Store(config.store).check_writable()
        plain = redact(config.plain())
        (sweep.folder / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
        on_ray = config.placement.engine == "ray"
        with native_noise_to(sweep.folder / "ray.log") if on_ray else nullcontext():
            return _play(sweep, console, stop, warm_from), sweep.folder


def _play(sweep: Sweep, console: Console, stop: StopRequest, warm_from: str | None) -> SweepRecord:
    began = time.perf_counter()
    on_ray = sweep.config.placement.engine == "ray"
    cluster = ray_session.connect(sweep.config.placement) if on_ray else None
    try:
        need, room = _room(sweep, cluster)
        study = Study(sweep.folder, sweep.name, sweep.spec, sweep.space)
        tracking = sweep.config.tracking
        tracker = Tracker(sweep.folder, [SweepLines(console)])
        if tracking.wandb != "disabled":
            tracker.add(SweepProjection(sweep.name, sweep.config, sweep.folder, tracking.wandb))
        tracker.emit("sweep_started", sweep=sweep.name, room=room)
        if not (sweep.folder / RECORD).exists():
            save_sweep(sweep.folder, _begin(sweep))
        status = "failed"
        try:
            spec = _queue(sweep, study, tracker, console, stop, warm_from)
            conductor = Conductor(
                spec, sweep.played, study, tracker, _labelled_rows(sweep.data), stop.asked
            )
            if on_ray:
                _play_on_ray(sweep, conductor, need, room, console, stop)
            else:
                _play_here(conductor, console, stop)
            status = "finished"
        except Interrupted:
            status = "interrupted"
            raise
        finally:
            record = _close(sweep, study, tracker, status, need, time.perf_counter() - began)
    finally:
        if cluster is not None:
            ray_session.disconnect(cluster)
    if record.places and all(place.state == "failed" for place in record.places):
        first = min(record.places, key=lambda place: place.trial)
        raise AllFailedError(
            f"all {len(record.places)} trials failed; trial {first.trial}: {first.reason}"
        )
    return record


def _room(sweep: Sweep, cluster: Cluster | None) -> tuple[Need, int]:
    """What a trial needs and how many run at a time."""
    placement = sweep.played.base.placement
    if cluster is None:
        return need_of(placement, Cluster(cpus=1, gpus=0, nodes=1, largest_node_cpus=1)), 1
    ray_session.check_feasible(placement, cluster)
    need = need_of(placement, cluster)
    return need, room_for(need, cluster, sweep.spec.concurrent)


def _labelled_rows(data: Dataset) -> tuple[int, ...]:
    labels = data.table(data.manifest.labelled, ["label"])["label"].to_numpy().astype(np.int64)
    return tuple(np.bincount(labels, minlength=data.num_classes).tolist())


def _queue(
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
        if "trials" not in spec.model_fields_set:
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
    searched = [d.path for d in sweep.space.dimensions if d.path.startswith("recipe.selector")]
    if not searched:
        raise ConfigError(
            "sweep.screen: no searched field is part of recipe.selector, so all candidates would "
            "select alike: leave screen out, or search the selector"
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
    watch = _SweepWatch(console, stop)
    engine = make_engine(base.placement)
    try:
        player = Player(base, sweep.data, Store(base.store), engine, teller, watch)
        evidence = gather_evidence(next(player.play(begin_record(base, sweep.data))))
    finally:
        engine.close()
    began = time.perf_counter()
    drawn, judged, refused = [], [], 0
    for chosen in draw(sweep.space, spec.sampler_seed, spec.screen.candidates):
        try:
            judged.append(screen(sweep.played.config(chosen).recipe, evidence))
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


def _play_here(conductor: Conductor, console: Console, stop: StopRequest) -> None:
    """One trial after the other in this process."""
    watch = _SweepWatch(console, stop)
    while (task := conductor.propose()) is not None:
        number = task.number
        engine = make_engine(task.configs[0].placement)

        def tell(name: str, *, number: int = number, **fields: Any) -> None:
            conductor.tell(number, name, **fields)

        try:
            player = TrialPlayer(task.configs, engine, tell, watch)
            while conductor.heard(number, player.step()):
                pass
        except (Interrupted, LostWorkError):
            raise  # the same command goes on with this trial
        except SelftrainError as error:
            conductor.failed(number, str(error))
        except Exception as error:  # noqa: BLE001 - a trial's fault ends the trial, not the sweep
            conductor.failed(number, f"{type(error).__name__}: {error}")
    if stop.asked():
        raise Interrupted("the sweep was stopped; finished steps and trials are kept")


def _play_on_ray(
    sweep: Sweep,
    conductor: Conductor,
    need: Need,
    room: int,
    console: Console,
    stop: StopRequest,
) -> None:
    from orchestrator.sweep.tune_trials import play_trials

    console.say(f"{room} trial{'s' if room > 1 else ''} at a time")
    play_trials(
        conductor,
        need=need,
        room=room,
        retries=sweep.config.placement.retries,
        store=sweep.played.base.store,
        name=sweep.name,
        say=console.say,
        stopping=stop.asked,
    )


def _begin(sweep: Sweep) -> SweepRecord:
    data = data_digest(sweep.data)
    return SweepRecord(sweep=sweep.name, status="running", config=sweep.config, data=data)


def _close(
    sweep: Sweep, study: Study, tracker: Tracker, status: Any, need: Need, seconds: float
) -> SweepRecord:
    """Write what the sweep leaves: its record, the best trial's config, the report."""
    trials = study.trials()
    places = leaderboard(trials, sweep.spec)
    first = best_of(places)
    record = SweepRecord(
        sweep=sweep.name,
        status=status,
        config=sweep.config,
        data=data_digest(sweep.data),
        places=tuple(places),
        best=first.trial if first else None,
        screened=sum(t.state == "screened" for t in trials)
        + sum(t.origin == "screened" for t in trials),
        importances=study.importances(),
        account=account_of(read_events(sweep.folder), need.cpus, need.gpus),
        seconds=round(seconds, 3),
    )
    if first is not None:
        found = sweep.space.config(first.chosen)
        seed = first.seeds[0] if first.seeds else found.recipe.seed
        recipe = found.recipe.model_copy(update={"seed": seed})
        plain = found.model_copy(update={"recipe": recipe}).plain()
        text = yaml.safe_dump(redact(plain), sort_keys=False)
        Files(sweep.folder).write("best.yaml", text.encode())
    save_sweep(sweep.folder, record)
    page = report_html(record, study.figures())
    Files(sweep.folder).write("report.html", page.encode())
    tracker.emit("sweep_closed", record=record.answer())
    tracker.close()
    return record


class _AsTrial:
    """Takes the events of work that the sweep does itself into its log."""

    def __init__(self, tracker: Tracker, trial: str, seed: int) -> None:
        self._tracker, self._trial, self._seed = tracker, trial, seed

    def emit(self, name: str, **fields: Any) -> None:
        if name == "step_finished":
            self._tracker.emit("trial_step", trial=self._trial, seed=self._seed, **fields)


class _SweepWatch(Silent):
    """Passes lines and the wish to stop; progress of single steps is not shown."""

    def __init__(self, console: Console, stop: StopRequest) -> None:
        self._console, self._stop = console, stop

    def say(self, text: str) -> None:
        self._console.say(text)

    def stopping(self) -> bool:
        return self._stop.asked()
