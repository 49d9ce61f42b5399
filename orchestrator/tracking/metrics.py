"""The metrics of runs and sweeps: their names, and what each event says about them.

Ray exports a metric NAME as `ray_NAME`, a counter as `ray_NAME_total`. Tags are few and bounded:
run, trial and kind of step. Trials are told apart by number, a run has the trial "".
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orchestrator.tracking.tracker import Event

Sort = Literal["counter", "gauge", "histogram"]
RUN = ("run", "trial")
STEP = ("run", "trial", "kind")
SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Upper bounds of the histogram of seconds."""


@dataclass(frozen=True)
class Metric:
    """One metric as it is declared."""

    name: str
    sort: Sort
    text: str
    """What it says, with its unit."""
    tags: tuple[str, ...] = RUN

    @property
    def exported(self) -> str:
        """The name that Prometheus reads."""
        return f"ray_{self.name}_total" if self.sort == "counter" else f"ray_{self.name}"


@dataclass(frozen=True)
class Reading:
    """A number for a metric: a counter rises by it, a gauge is set to it, a histogram takes it."""

    metric: Metric
    value: float
    tags: dict[str, str]


STARTED = Metric("selftrain_steps_started", "counter", "Steps that were begun", STEP)
COMPUTED = Metric("selftrain_steps_computed", "counter", "Steps that were computed here", STEP)
FOUND = Metric("selftrain_steps_from_store", "counter", "Steps found in the store", STEP)
STEP_SECONDS = Metric("selftrain_step_seconds", "histogram", "Seconds of computing one step", STEP)
LAST_STEP = Metric(
    "selftrain_last_step_timestamp_seconds", "gauge", "When a step ended last, in UNIX seconds"
)
RUNNING = Metric("selftrain_running", "gauge", "1 while it is played, 0 after its end")
ROUND = Metric("selftrain_round", "gauge", "Number of the newest finished round, from 0")
ROLLED_BACK = Metric("selftrain_rounds_rolled_back", "counter", "Rounds that were rolled back")
VALIDATION = Metric(
    "selftrain_validation_score", "gauge", "Validation score of the newest round, as a share"
)
BEST = Metric("selftrain_best_validation_score", "gauge", "Best validation score so far")
ACCEPTED = Metric(
    "selftrain_accepted_share", "gauge", "Share of the pool that the newest selection accepted"
)
ALARMS = Metric("selftrain_alarms", "counter", "Alarms that rounds raised")
REFUSED = Metric("selftrain_refused_rows", "counter", "Pool rows that could not be labelled")
ROWS_PER_S = Metric("selftrain_label_rows_per_second", "gauge", "Pool rows labelled a second")
IMAGES_PER_S = Metric(
    "selftrain_train_images_per_second", "gauge", "Images a second while training"
)
WAITS = Metric("selftrain_lease_waits", "counter", "Waits for a step of another process", STEP)
WAITING = Metric("selftrain_waiting", "gauge", "1 while another process holds the step's lease")
TRIALS = Metric(
    "selftrain_trials_ended", "counter", "Trials that ended, by state", ("run", "state")
)
METRICS = (
    STARTED,
    COMPUTED,
    FOUND,
    STEP_SECONDS,
    LAST_STEP,
    RUNNING,
    ROUND,
    ROLLED_BACK,
    VALIDATION,
    BEST,
    ACCEPTED,
    ALARMS,
    REFUSED,
    ROWS_PER_S,
    IMAGES_PER_S,
    WAITS,
    WAITING,
    TRIALS,
)
"""All of them."""


class Readings:
    """Turns the events of one run or sweep into readings; knows no Ray."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._best: dict[str, float] = {}
        self._waiting: set[str] = set()
        self._playing: set[str] = set()
        self._by_event: dict[str, Callable[[Event], Iterator[Reading]]] = {
            "run_started": self._begun,
            "sweep_started": self._begun,
            "trial_started": self._begun,
            "step_started": self._step_started,
            "step_waits": self._step_waits,
            "trial_waits": self._step_waits,
            "step_finished": self._step_finished,
            "trial_step": self._step_finished,
            "progress": self._progress,
            "round_finished": self._round_finished,
            "trial_round": self._trial_round,
            "trial_ended": self._trial_ended,
            "run_finished": self._ended,
            "run_interrupted": self._ended,
            "run_failed": self._ended,
            "sweep_closed": self._ended,
        }

    def of(self, event: Event) -> list[Reading]:
        """What an event says; nothing for events that are no metric's."""
        told = self._by_event.get(event["event"])
        return [] if told is None else list(told(event))

    def _at(self, metric: Metric, value: float, event: Event, **tags: str) -> Reading:
        found = {"run": self._run, "trial": _trial(event), "kind": str(event.get("kind", ""))}
        found |= tags
        return Reading(metric, float(value), {name: found[name] for name in metric.tags})

    def _begun(self, event: Event) -> Iterator[Reading]:
        self._playing.add(_trial(event))
        yield self._at(RUNNING, 1, event)
        yield self._at(LAST_STEP, _when(event), event)

    def _step_started(self, event: Event) -> Iterator[Reading]:
        yield self._at(STARTED, 1, event)

    def _step_waits(self, event: Event) -> Iterator[Reading]:
        self._waiting.add(_trial(event))
        yield self._at(WAITS, 1, event)
        yield self._at(WAITING, 1, event)

    def _step_finished(self, event: Event) -> Iterator[Reading]:
        if event["event"] == "trial_step":  # a trial tells no beginning of a step
            yield self._at(STARTED, 1, event)
        if _trial(event) in self._waiting:
            self._waiting.discard(_trial(event))
            yield self._at(WAITING, 0, event)
        yield self._at(LAST_STEP, _when(event), event)
        if event["from_store"]:
            yield self._at(FOUND, 1, event)
            return
        yield self._at(COMPUTED, 1, event)
        yield self._at(STEP_SECONDS, event["work_s"], event)
        if refused := event.get("counts", {}).get("refused"):
            yield self._at(REFUSED, refused, event)
        metrics = event.get("metrics", {})
        for name, metric in (("rows_per_s", ROWS_PER_S), ("images_per_s", IMAGES_PER_S)):
            if metrics.get(name) is not None:
                yield self._at(metric, metrics[name], event)

    def _progress(self, event: Event) -> Iterator[Reading]:
        for name, metric in (("rows_per_s", ROWS_PER_S), ("images_per_s", IMAGES_PER_S)):
            if event.get(name) is not None:
                yield self._at(metric, event[name], event)

    def _round_finished(self, event: Event) -> Iterator[Reading]:
        yield from self._scored(event, event["validation"]["score"])
        if not event["kept"]:
            yield self._at(ROLLED_BACK, 1, event)
        if (share := event.get("selection", {}).get("coverage")) is not None:
            yield self._at(ACCEPTED, share, event)
        if raised := len(event.get("alarms", ())):
            yield self._at(ALARMS, raised, event)

    def _trial_round(self, event: Event) -> Iterator[Reading]:
        scores = [seed["score"] for seed in event["seeds"]]
        yield from self._scored(event, sum(scores) / len(scores))

    def _scored(self, event: Event, score: float) -> Iterator[Reading]:
        trial = _trial(event)
        self._best[trial] = max(score, self._best.get(trial, score))
        yield self._at(ROUND, event["round"], event)
        yield self._at(VALIDATION, score, event)
        yield self._at(BEST, self._best[trial], event)

    def _trial_ended(self, event: Event) -> Iterator[Reading]:
        yield from self._over(event, _trial(event))
        yield self._at(TRIALS, 1, event, state=event["state"])

    def _ended(self, event: Event) -> Iterator[Reading]:
        for trial in sorted(self._playing | {""}):
            yield from self._over(event, trial)

    def _over(self, event: Event, trial: str) -> Iterator[Reading]:
        self._playing.discard(trial)
        self._waiting.discard(trial)
        yield self._at(RUNNING, 0, event, trial=trial)
        yield self._at(WAITING, 0, event, trial=trial)


def _trial(event: Event) -> str:
    number = event.get("trial")
    return "" if number is None else str(number)


def _when(event: Event) -> float:
    try:
        return datetime.fromisoformat(event["time"]).timestamp()
    except (KeyError, ValueError):
        return time.time()
