"""The plan of a run: its steps, which of them the store has, and how much the rest would take."""

from typing import Any

from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import Fold
from orchestrator.policy import Played, judge, teacher_in_force
from orchestrator.steps import Step, Steps
from orchestrator.store.store import Store
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


class _Planner:
    """Walks the rounds as `Player` does, reading records where there are any."""

    def __init__(self, config: RunConfig, data: Dataset, store: Store) -> None:
        self._config, self._data, self._store = config, data, store
        self._steps = Steps(config, data)
        self._lines: list[PlannedStep] = []

    def plan(self) -> list[PlannedStep]:
        recipe = self._config.recipe
        policy, folds = recipe.policy, recipe.labelling.out_of_fold
        pool = self._data.manifest.pool.num_rows
        trained: list[str] = []
        played: list[Played] = []
        selection: str | None = None
        crossed: str | None = None
        predictions: str | None = None
        for round_ in range(policy.num_rounds):
            warm = bool(played) and policy.start == "warm"
            start = trained[teacher_in_force(played)] if warm else None
            accepted = self._accepted(selection)
            for number in [None, *range(folds)]:
                fold = None if number is None else Fold(number=number, of=folds)
                step = self._steps.train(
                    round_,
                    selection=None if accepted == 0 else selection,
                    num_selected=pool if accepted is None else accepted,
                    start=start,
                    fold=fold,
                )
                bound = "at most " if accepted is None else ""
                work = f"train {bound}{step.job.num_steps:,} steps"
                name = "train" if number is None else f"train-fold-{number}"
                self._add(round_, name, step, work, most_steps=step.job.num_steps)
                if number is None:
                    trained.append(step.address)
            score = self._steps.score(trained[-1])
            self._add(round_, "score", score, "score validation and test")
            played.append(self._played(round_, score.address, played))
            if round_ + 1 == policy.num_rounds and not policy.label_last:
                continue
            label = self._steps.label(trained[teacher_in_force(played)])
            self._add(round_, "label", label, f"label {pool:,} rows", rows=pool)
            if folds and played[-1].kept:
                addresses = tuple(
                    line.address
                    for line in self._lines
                    if line.round == round_ and line.step.startswith("train-fold-")
                )
                cross = self._steps.cross_label(addresses)
                self._add(round_, "cross_label", cross, "label labelled rows out of fold")
                crossed = cross.address
            keep = selection if policy.pool == "keep" else None
            select = self._steps.select(
                round_, predictions=label.address, out_of_fold=crossed, previous=keep
            )
            self._add(round_, "select", select, f"select from {pool:,} rows")
            audit = self._steps.audit(
                select.address,
                predictions=label.address,
                selection_before=selection,
                predictions_before=predictions,
            )
            self._add(round_, "audit", audit, "look at the selection, for reports")
            selection, predictions = select.address, label.address
        return self._lines

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
        validation = float(metrics["validation"]["accuracy"])
        verdict = judge(self._config.recipe.policy, played, validation)
        return Played(round_, validation, verdict.kept)


def plan_run(config: RunConfig, data: Dataset, store: Store) -> list[PlannedStep]:
    """The steps of a run in order; computes nothing."""
    store_root = store.root
    return _Planner(config.model_copy(update={"store": store_root}), data, store).plan()
