"""The plan of a run: its steps, which of them the store has, and how much the rest would take."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from orchestrator.base_steps import Step
from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import Fold, TrainJobs
from orchestrator.policy import Played, judge, teacher_in_force
from orchestrator.store.store import Store
from orchestrator.tasks import steps_of
from trainables.spec import Spec


class PlannedStep(Spec):
    """One step of a plan."""

    round: int
    """Round that it belongs to."""
    step: str
    """Name of the step within its round."""
    kind: str
    """Kind of the step."""
    address: str
    """Its address."""
    in_store: bool
    """Whether the store has it."""
    work: str
    """What it would do, in words."""
    most_steps: int = 0
    """Most optimiser steps that it would train."""
    rows: int = 0
    """Pool rows that it would read."""
    identity: Annotated[dict[str, Any], Field(exclude=True)] = {}
    """All that its address covers; not printed."""


class _Planner:
    """Walks the rounds as `Player` does, reading records where there are any."""

    def __init__(self, config: RunConfig, data: Dataset, store: Store) -> None:
        self._config, self._data, self._store = config, data, store
        self._steps = steps_of(config, data)
        self._lines: list[PlannedStep] = []
        self._out_of_fold: str | None = None
        self._predictions: str | None = None
        self._tables: list[str] = []

    def plan(self) -> list[PlannedStep]:
        recipe = self._config.recipe
        policy, folds = recipe.policy, self._steps.folds
        pool = self._data.manifest.pool.num_rows
        trained: list[tuple[str, ...]] = []
        fold_students: list[tuple[str, ...]] = []
        played: list[Played] = []
        selection: str | None = None
        if self._steps.begins_with_labels:
            selection = self._begin()
        for round_ in range(policy.num_rounds):
            teacher = teacher_in_force(played) if played and policy.start != "restart" else None
            starts = None if teacher is None else trained[teacher]
            fold_starts = None if teacher is None else fold_students[teacher]
            accepted = self._accepted(selection)
            chosen = None if accepted == 0 else selection
            extension = self._steps.extend(round_, chosen) if chosen else None
            if extension is not None:
                self._add(round_, "extend", extension, "make images for each class")
            alone = None if round_ else self._steps.baseline()
            if alone is not None:
                self._train(round_, "train-alone", alone, "")
                score = self._steps.score(alone.address)
                self._add(round_, "score-alone", score, "score validation and test")
            make = partial(
                self._steps.train,
                round_,
                selection=chosen,
                num_selected=pool if accepted is None else accepted,
                out_of_fold=self._out_of_fold,
            )
            bound = "at most " if accepted is None else ""
            members = []
            for member in range(self._steps.members):
                step = make(member=member, start=starts[member] if starts else None)
                self._train(round_, f"train-{member}" if member else "train", step, bound)
                members.append(step.address)
            labels_after = round_ + 1 < policy.num_rounds or policy.label_last
            ours = []
            for number in range(folds if labels_after else 0):
                start = fold_starts[number] if fold_starts else None
                step = make(fold=Fold(number=number, of=folds), start=start)
                self._train(round_, f"train-fold-{number}", step, bound)
                ours.append(step.address)
            trained.append(tuple(members))
            fold_students.append(tuple(ours))
            score = self._steps.score(members[0])
            self._add(round_, "score", score, "score validation and test")
            played.append(self._played(round_, score.address, played))
            if round_ + 1 == policy.num_rounds and not policy.label_last:
                continue
            predictions = self._label_pool(round_, trained[teacher_in_force(played)])
            if folds and played[-1].kept:
                cross = self._steps.cross_label(fold_students[round_], trained[round_][0])
                self._add(round_, "cross_label", cross, "label labelled rows out of fold")
                self._out_of_fold = cross.address
            keep = selection if policy.pool != "relabel_all" else None
            selection = self._select(round_, predictions, keep, selection)
        return self._lines

    def _begin(self) -> str:
        """What foreign sources do before round 0; the address of their selection."""
        predictions = self._label_pool(0, ())
        cross = self._steps.cross_label_foreign()
        self._add(0, "cross_label-before", cross, "label labelled rows by foreign sources")
        self._out_of_fold = cross.address
        return self._select(-1, predictions, None, None)

    def _label_pool(self, round_: int, trains: Sequence[str]) -> str:
        """The address of the round's prediction table."""
        pool, addresses = self._data.manifest.pool.num_rows, []
        for name, step in self._steps.sources(trains).items():
            self._add(round_, name, step, f"label {pool:,} rows", rows=pool)
            addresses.append(step.address)
        first, addresses = addresses[0], self._steps.beside(addresses, self._tables)
        combine = self._steps.combine(addresses, self._predictions, students=bool(trains))
        self._tables += [first] if trains else []
        if combine is None:
            return first
        name = "combine" if trains else "combine-before"
        self._add(round_, name, combine, f"combine the labels of {len(addresses)} sources")
        return combine.address

    def _select(self, round_: int, predictions: str, keep: str | None, before: str | None) -> str:
        """Selection and audit from a prediction table; the address of the selection."""
        pool, early = self._data.manifest.pool.num_rows, "-before" if round_ < 0 else ""
        select = self._steps.select(
            round_, predictions=predictions, out_of_fold=self._out_of_fold, previous=keep
        )
        self._add(max(0, round_), f"select{early}", select, f"select from {pool:,} rows")
        audit = self._steps.audit(
            select.address,
            predictions=predictions,
            selection_before=before,
            predictions_before=self._predictions,
        )
        self._add(max(0, round_), f"audit{early}", audit, "look at the selection, for reports")
        self._predictions = predictions
        return select.address

    def _train(self, round_: int, name: str, step: Step[TrainJobs], bound: str) -> None:
        work = f"train {bound}{step.job.num_steps:,} steps"
        self._add(round_, name, step, work, most_steps=step.job.num_steps)

    def _add(
        self, round_: int, name: str, step: Step[Any], work: str, most_steps: int = 0, rows: int = 0
    ) -> None:
        self._lines.append(
            PlannedStep(
                round=round_,
                step=name,
                kind=step.kind,
                address=step.address,
                in_store=self._store.has(step.kind, step.address),
                work=work,
                most_steps=most_steps,
                rows=rows,
                identity=step.identity.plain(),
            )
        )

    def _accepted(self, selection: str | None) -> int | None:
        """Rows of a selection; None if it is not computed yet."""
        if selection is None:
            return 0
        if not self._store.has("select", selection):
            return None
        return int(self._store.record("select", selection).counts["accepted"])

    def _played(self, round_: int, score: str, played: list[Played]) -> Played:
        """The round as decisions would see it; without a score it counts as kept."""
        if not self._store.has("score", score):
            best = max((p.validation for p in played), default=0.0)
            return Played(round_, best, kept=True)
        metrics = self._store.record("score", score).metrics
        validation = float(metrics["validation"]["score"])
        verdict = judge(self._config.recipe.policy, played, validation)
        return Played(round_, validation, verdict.kept)


def plan_run(config: RunConfig, data: Dataset, store: Store) -> list[PlannedStep]:
    """The steps of a run in order; computes nothing."""
    store_root = store.root
    return _Planner(config.model_copy(update={"store": store_root}), data, store).plan()
