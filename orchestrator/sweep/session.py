"""One sweep from start to end: its lease, study, queue, trials, and what it leaves behind."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml

from orchestrator import ray_session
from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.errors import AllFailedError, InfeasibleError, Interrupted
from orchestrator.noise import native_noise_to
from orchestrator.notices import NodeNotice
from orchestrator.preflight import check_nodes
from orchestrator.ray_session import Cluster
from orchestrator.runs import data_digest
from orchestrator.signals import StopRequest
from orchestrator.store.files import Files
from orchestrator.store.lease import Lease
from orchestrator.store.store import Store
from orchestrator.sweep.accounting import account_of
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.display import SweepLines
from orchestrator.sweep.leaderboard import best_of, leaderboard
from orchestrator.sweep.local_trials import play_here
from orchestrator.sweep.opening import Sweep, open_sweep
from orchestrator.sweep.queueing import fill_queue
from orchestrator.sweep.record import RECORD, SweepRecord, save_sweep
from orchestrator.sweep.report import report_html
from orchestrator.sweep.resources import Need, need_of, room_for
from orchestrator.sweep.study import Study
from orchestrator.tracking.log_projection import LogProjection
from orchestrator.tracking.process_log import open_log
from orchestrator.tracking.ray_metrics_projection import RayMetricsProjection
from orchestrator.tracking.secrets import redact
from orchestrator.tracking.tracker import Tracker, read_events
from orchestrator.tracking.wandb_projection import SweepProjection


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
        plain = yaml.safe_dump(redact(config.plain()), sort_keys=False)
        Files(sweep.folder).write("config.yaml", plain.encode())
        on_ray = config.placement.engine == "ray"
        noise = native_noise_to(sweep.folder / "ray.log") if on_ray else nullcontext()
        notice = NodeNotice(stop) if on_ray else nullcontext()
        with noise, notice, open_log(sweep.folder, sweep.name):
            return _play(sweep, console, stop, warm_from), sweep.folder


def _play(sweep: Sweep, console: Console, stop: StopRequest, warm_from: str | None) -> SweepRecord:
    began = time.perf_counter()
    on_ray = sweep.config.placement.engine == "ray"
    cluster = ray_session.connect(sweep.config.placement) if on_ray else None
    try:
        if cluster is not None:
            check_nodes(sweep.played.base.store)
        need, room = _room(sweep, cluster)
        study = Study(sweep.folder, sweep.name, sweep.spec, sweep.space)
        tracking = sweep.config.tracking
        tracker = Tracker(sweep.folder, [SweepLines(console), LogProjection()])
        if on_ray:
            tracker.add(RayMetricsProjection(sweep.name))
        if tracking.wandb != "disabled":
            tracker.add(SweepProjection(sweep.name, sweep.config, sweep.folder, tracking.wandb))
        tracker.emit("sweep_started", sweep=sweep.name, room=room)
        if not (sweep.folder / RECORD).exists():
            save_sweep(sweep.folder, _begin(sweep))
        status = "failed"
        try:
            spec = fill_queue(sweep, study, tracker, console, stop, warm_from)
            conductor = Conductor(
                spec, sweep.played, study, tracker, sweep.data.labelled_rows, stop.asked
            )
            if on_ray:
                _play_on_ray(sweep, conductor, need, room, console, stop)
            else:
                play_here(conductor, console, stop)
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
    if cluster is None and (sweep.spec.concurrent or 1) > 1:
        raise InfeasibleError(
            f"sweep.concurrent is {sweep.spec.concurrent}, but placement.engine local plays one "
            "trial at a time: leave it out, or use engine ray"
        )
    if cluster is None:
        return need_of(placement, Cluster(cpus=1, gpus=0, nodes=1, largest_node_cpus=1)), 1
    ray_session.check_feasible(placement, cluster)
    need = need_of(placement, cluster)
    return need, room_for(need, cluster, sweep.spec.concurrent)


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
