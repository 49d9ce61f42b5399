"""A trial: one run for each seed, played round by round side by side. Knows no study and no Ray."""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.engines.base import Engine
from orchestrator.play import Player
from orchestrator.runs import RoundRecord, RunRecord, begin_record
from orchestrator.store.store import Store
from orchestrator.sweep.spec import ObjectiveName
from orchestrator.tracking.log_projection import LogProjection
from orchestrator.watch import Watch
from trainables.spec import Spec

Tell = Callable[..., None]
"""Hears the name of an event and its fields."""


class SeedRound(Spec):
    """Where the run of one seed stands after a round."""

    seed: int
    """Seed of the run."""
    score: float
    """Validation score of the newest round."""
    delivered: float
    """Validation score of the round that the run would deliver now."""
    test: float
    """Test score of that round; no decision reads it."""
    best_round: int
    """That round."""
    pseudo_labels: int
    """Labels of the pool that this round learned from."""
    class_rows: tuple[int, ...]
    """Rows of the newest selection by pseudo-class; empty if nothing was selected."""
    work_s: float
    """Seconds of work behind all steps so far, whoever did them."""
    stopped: str | None
    """Why the run plays no further round."""
    newest: RoundRecord | None = None
    """The newest round, with its diagnostics and alarms."""


class TrialRound(Spec):
    """Where a trial stands after a round."""

    round: int
    """Number of the round."""
    seeds: tuple[SeedRound, ...]
    """Each seed's run."""
    finished: bool
    """Whether no seed plays a further round."""

    @property
    def score(self) -> float:
        """Validation score of the newest round, mean over seeds."""
        return fmean(s.score for s in self.seeds)

    @property
    def class_rows(self) -> tuple[int, ...]:
        """Rows of the newest selections by pseudo-class, over all seeds."""
        return tuple(map(sum, zip(*(s.class_rows for s in self.seeds), strict=False)))

    def objective(self, name: ObjectiveName) -> float:
        """An objective, mean over seeds."""
        if name == "score":
            return fmean(s.delivered for s in self.seeds)
        if name == "seconds":
            return fmean(s.work_s for s in self.seeds)
        return fmean(s.pseudo_labels for s in self.seeds)


class TrialPlayer:
    """Plays the runs of a trial, one round of all seeds at a time."""

    def __init__(
        self, configs: Sequence[RunConfig], engine: Engine, tell: Tell, watch: Watch
    ) -> None:
        """Prepare to play; ``tell`` hears every event of the runs.

        Raises:
            ConfigError: A recipe does not fit its data set.
            DataError: A data set can't be read.
        """
        self._configs = list(configs)
        self._runs: list[Iterator[RunRecord]] = []
        self._latest: list[RunRecord] = []
        for config in self._configs:
            data, store = Dataset(config.data), Store(config.store)
            teller = _Teller(tell, config.recipe.seed)
            player = Player(config, data, store, engine, teller, watch)
            record = begin_record(config, data)
            self._runs.append(player.play(record))
            self._latest.append(record)
        self._round = -1

    def step(self) -> TrialRound:
        """Play one round of every seed that still goes on.

        Raises:
            Interrupted: Asked to stop; what is finished is in the store.
            SelftrainError: A step can't be done.
        """
        self._round += 1
        for i, run in enumerate(self._runs):
            if self._latest[i].status != "finished":
                self._latest[i] = next(run)
        seeds = tuple(_stand(record) for record in self._latest)
        return TrialRound(
            round=self._round,
            seeds=seeds,
            finished=all(record.status == "finished" for record in self._latest),
        )


class _Teller:
    """Passes a run's events on, told apart by seed, and to the log of this process."""

    def __init__(self, tell: Tell, seed: int) -> None:
        self._tell, self._seed = tell, seed
        self._log = LogProjection()

    def emit(self, name: str, **fields: Any) -> None:
        self._log.hear({"event": name, "seed": self._seed, **fields})
        self._tell(name, seed=self._seed, **fields)


def _stand(record: RunRecord) -> SeedRound:
    newest, best = record.rounds[-1], record.best_round or 0
    before = record.rounds[best - 1] if best else None
    return SeedRound(
        seed=record.config.recipe.seed,
        score=newest.validation["score"],
        delivered=record.rounds[best].validation["score"],
        test=record.rounds[best].test["score"],
        best_round=best,
        pseudo_labels=(before.accepted or 0) if before else 0,
        class_rows=newest.class_rows,
        work_s=sum(step.work_s for each in record.rounds for step in each.steps.values()),
        stopped=record.stopped,
        newest=newest,
    )
