"""Play a run: round after round of addressed steps, each found in the store or computed once.

round r:  train -> score -> (roll back?) -> label -> select      the next round trains on it
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestrator.alarms import alarms
from orchestrator.base_steps import Step
from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.engines.base import Engine
from orchestrator.errors import Interrupted
from orchestrator.jobs.job import Fold
from orchestrator.policy import Played, delivered, judge, stop_reason, teacher_in_force
from orchestrator.reporting import chosen_of, trained_of
from orchestrator.runs import RoundRecord, RunRecord, StepRef
from orchestrator.store.record import Record
from orchestrator.store.store import Store
from orchestrator.tasks import steps_of
from orchestrator.tracking.tracker import Teller
from orchestrator.watch import Watch
from orchestrator.work import Work


@dataclass
class _Round:
    """A round while it is played."""

    number: int
    began: float = field(default_factory=time.perf_counter)
    steps: dict[str, StepRef] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)


class Player:
    """Plays the rounds of one run on an engine."""

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        store: Store,
        engine: Engine,
        tracker: Teller,
        watch: Watch,
    ) -> None:
        self._data, self._store, self._tracker, self._watch = data, store, tracker, watch
        self._steps = steps_of(config, data)
        refused = config.placement.most_refused_share
        self._work = Work(data, engine, watch, most_refused_share=refused)
        self._policy = config.recipe.policy
        self._fold_students: dict[int, tuple[str, ...]] = {}
        self._out_of_fold: str | None = None
        self._predictions: str | None = None
        self._tables: list[str] = []

    def play(self, record: RunRecord) -> Iterator[RunRecord]:
        """The run's record after each round; the last one is finished.

        Raises:
            Interrupted: Asked to stop; everything finished so far is in the store.
            SelftrainError: A step can't be done; the error says what to do.
        """
        rounds: list[RoundRecord] = []
        played: list[Played] = []
        trained: dict[int, tuple[str, ...]] = {}
        selection: Record | None = None
        alone: Record | None = None
        while record.status != "finished":
            self._check_stop(len(rounds))
            number = len(rounds)
            self._tracker.emit("round_started", round=number)
            current = _Round(number)
            if not number and self._steps.begins_with_labels:
                selection = self._begin(current)
            baseline = None if number else self._baseline(current)
            alone = baseline or alone
            trained[number] = self._train(current, trained, played, selection)
            score = self._do(current, "score", self._steps.score(trained[number][0]))
            validation = float(score.metrics["validation"]["score"])
            verdict = judge(self._policy, played, validation)
            played.append(Played(number, validation, verdict.kept))
            last = stop_reason(self._policy, played) is not None
            if not last or self._policy.label_last:
                selection = self._label_and_select(current, trained, played, selection)
            rounds.append(self._finish(current, played, verdict.reason, score, alone))
            stopped = self._stop_reason(played, selection)
            record = record.model_copy(
                update={
                    "rounds": tuple(rounds),
                    "best_round": delivered(self._policy, played),
                    "stopped": stopped,
                    "status": "running" if stopped is None else "finished",
                }
            )
            self._tracker.emit("round_finished", **rounds[-1].model_dump(mode="json"))
            yield record

    def _baseline(self, current: _Round) -> Record | None:
        """Scores of a training on labels alone, where round 0 reads more."""
        if (step := self._steps.baseline()) is None:
            return None
        trained = self._do(current, "train-alone", step)
        return self._do(current, "score-alone", self._steps.score(trained.address))

    def _check_stop(self, num_played: int) -> None:
        if self._watch.stopping():
            raise Interrupted(f"stopped between rounds after {num_played} of them")

    def _stop_reason(self, played: list[Played], selection: Record | None) -> str | None:
        if (reason := stop_reason(self._policy, played)) is not None:
            return reason
        reads_pool = self._steps.reads_pool
        if played and not reads_pool and selection and not selection.counts["accepted"]:
            return "the selection is empty: nothing reached the selector's bounds"
        return None

    def _train(
        self,
        current: _Round,
        trained: dict[int, tuple[str, ...]],
        played: list[Played],
        selection: Record | None,
    ) -> tuple[str, ...]:
        """Train the round's students, and its fold students if the recipe asks for them.

        A fold student that starts warm starts from that of the same fold, which never saw its rows.
        """
        teacher = teacher_in_force(played) if played and self._policy.start != "restart" else None
        starts = None if teacher is None else trained[teacher]
        fold_starts = None if teacher is None else self._fold_students[teacher]
        accepted = int(selection.counts["accepted"]) if selection else 0
        chosen = selection.address if selection and accepted else None
        extension = self._steps.extend(current.number, chosen) if chosen else None
        if extension is not None:
            self._do(current, "extend", extension)
        make = partial(
            self._steps.train,
            current.number,
            selection=chosen,
            num_selected=accepted,
            out_of_fold=self._out_of_fold,
        )
        students = []
        for member in range(self._steps.members):
            step = make(member=member, start=starts[member] if starts else None)
            name = f"train-{member}" if member else "train"
            students.append(self._do(current, name, step).address)
        labels_after = current.number + 1 < self._policy.num_rounds or self._policy.label_last
        folds = self._steps.folds if labels_after else 0
        fold_students = []
        for number in range(folds):
            start = fold_starts[number] if fold_starts else None
            step = make(fold=Fold(number=number, of=folds), start=start)
            fold_students.append(self._do(current, f"train-fold-{number}", step).address)
        self._fold_students[current.number] = tuple(fold_students)
        return tuple(students)

    def _begin(self, current: _Round) -> Record:
        """Label and select before round 0, by the foreign sources alone."""
        predictions = self._label_pool(current, ())
        crossed = self._do(current, "cross_label-before", self._steps.cross_label_foreign())
        self._out_of_fold = crossed.address
        step = self._steps.select(
            -1, predictions=predictions.address, out_of_fold=crossed.address, previous=None
        )
        selection = self._do(current, "select-before", step)
        audit = self._steps.audit(selection.address, predictions=predictions.address)
        self._do(current, "audit-before", audit)
        self._predictions = predictions.address
        return selection

    def _label_pool(self, current: _Round, trains: Sequence[str]) -> Record:
        """The round's prediction table: that of its only source, or all of them combined."""
        labellings = self._steps.sources(trains)
        tables = [self._do(current, n, step) for n, step in labellings.items()]
        sources = self._steps.beside([table.address for table in tables], self._tables)
        step = self._steps.combine(sources, self._predictions, students=bool(trains))
        self._tables += [tables[0].address] if trains else []
        if step is None:
            return tables[0]
        name = "combine" if trains else "combine-before"
        return self._do(current, name, step)

    def _label_and_select(
        self,
        current: _Round,
        trained: dict[int, tuple[str, ...]],
        played: list[Played],
        previous: Record | None,
    ) -> Record:
        """Label by the teacher in force and select; a rolled-back round's own teacher is unused."""
        teacher = teacher_in_force(played)
        predictions = self._label_pool(current, trained[teacher])
        if self._steps.folds and teacher == current.number:
            step = self._steps.cross_label(self._fold_students[teacher], trained[teacher][0])
            crossed = self._do(current, "cross_label", step)
            self._out_of_fold = crossed.address
        keep = previous.address if previous and self._policy.pool != "relabel_all" else None
        step = self._steps.select(
            current.number,
            predictions=predictions.address,
            out_of_fold=self._out_of_fold,
            previous=keep,
        )
        selection = self._do(current, "select", step)
        audit = self._steps.audit(
            selection.address,
            predictions=predictions.address,
            selection_before=previous.address if previous else None,
            predictions_before=self._predictions,
        )
        self._do(current, "audit", audit)
        self._predictions = predictions.address
        return selection

    def _do(
        self,
        current: _Round,
        name: str,
        step: Step[Any],
    ) -> Record:
        """One step: from the store, or computed under a lease; told to the tracker either way."""
        if self._watch.stopping():
            raise Interrupted(f"stopped before the {name} step of round {current.number}")
        began = time.perf_counter()
        where = {"round": current.number, "step": name, "kind": step.kind, "address": step.address}
        self._tracker.emit("step_started", **where)

        def waits(text: str) -> None:
            self._tracker.emit("step_waits", **where, text=text)
            self._watch.say(text)

        record, from_store = self._store.once(
            step.identity,
            partial(self._work.do, step.job),
            told=waits,
            stopping=self._watch.stopping,
        )
        seconds = time.perf_counter() - began
        current.records[name] = record
        current.steps[name] = StepRef(
            kind=step.kind,
            address=step.address,
            from_store=from_store,
            seconds=round(seconds, 3),
            work_s=record.seconds,
        )
        self._tracker.emit(
            "step_finished",
            **where,
            from_store=from_store,
            seconds=round(seconds, 3),
            work_s=record.seconds,
            counts=record.counts,
            metrics=record.metrics,
        )
        return record

    def _finish(
        self,
        current: _Round,
        played: list[Played],
        reason: str,
        score: Record,
        alone: Record | None,
    ) -> RoundRecord:
        selected, audit = current.records.get("select"), current.records.get("audit")
        class_rows = tuple(selected.counts["class_rows"]) if selected else ()
        trained = trained_of(current.records["train"])
        chosen = chosen_of(selected, audit)
        return RoundRecord(
            round=current.number,
            kept=played[-1].kept,
            reason=reason,
            steps=current.steps,
            accepted=selected.counts["accepted"] if selected else None,
            class_rows=class_rows,
            **chosen,
            **trained,
            alarms=alarms(
                current.number,
                coverage=chosen["selection"].get("coverage"),
                class_rows=class_rows,
                labelled_rows=self._data.labelled_rows,
                flip_rate=chosen["selection"].get("flip_rate"),
                validations=[each.validation for each in played],
                alone=alone.metrics["validation"]["score"] if alone else None,
                accepts_all=selected.metrics.get("accepts_all", True) if selected else True,
                in_step=trained["in_step"],
            ),
            starved_classes=tuple(selected.counts["starved_classes"]) if selected else (),
            validation=score.metrics["validation"],
            test=score.metrics["test"],
            alone=dict(alone.metrics) if alone and not current.number else {},
            seconds=round(time.perf_counter() - current.began, 3),
        )
