"""Does the work of steps: each kind of job by its function, on an engine.

What reads the whole pool is done over groups of its fragments, wherever the engine likes.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from orchestrator.data.dataset import Dataset
from orchestrator.engines.base import Engine
from orchestrator.errors import DataError
from orchestrator.jobs.auditing import audit_shards, gather_audit
from orchestrator.jobs.combining import run_combining
from orchestrator.jobs.extending import run_extending
from orchestrator.jobs.job import (
    AuditJob,
    CombineJob,
    CrossLabelJob,
    ExtendJob,
    Job,
    LabelJob,
    LabelJobs,
    PointLabelJob,
    PointSelectJob,
    PointTrainJob,
    ScoreJob,
    SelectJob,
    TrainJob,
    TrainJobs,
)
from orchestrator.jobs.labelling import finished, gather, label_out_of_fold
from orchestrator.jobs.point_selecting import run_point_selecting
from orchestrator.jobs.scoring import run_scoring
from orchestrator.jobs.selecting import run_selecting
from orchestrator.store.store import Outcome, StepFolder
from orchestrator.watch import Watch

Doing = Callable[[Any, StepFolder], Outcome]


class Work:
    """Does the work of one run's steps."""

    def __init__(
        self, data: Dataset, engine: Engine, watch: Watch, *, most_refused_share: float
    ) -> None:
        self._pool, self._engine, self._watch = data.manifest.pool, engine, watch
        self._most_refused_share = most_refused_share
        self._by_kind: dict[type[Job], Doing] = {
            TrainJob: self._train,
            PointTrainJob: self._train,
            ScoreJob: lambda job, _: run_scoring(job, engine.device()),
            LabelJob: self._label,
            PointLabelJob: self._label,
            CrossLabelJob: lambda job, _: label_out_of_fold(job, engine.device()),
            CombineJob: lambda job, _: run_combining(
                job, self._over, most_refused_share=most_refused_share
            ),
            SelectJob: lambda job, _: run_selecting(job, self._over),
            PointSelectJob: lambda job, _: run_point_selecting(job, self._over),
            ExtendJob: lambda job, _: run_extending(job),
            AuditJob: lambda job, _: gather_audit(job, self._over(partial(audit_shards, job))),
        }

    def do(self, job: Job, folder: StepFolder) -> Outcome:
        """Do a job; ``folder`` is where its step's files go.

        Raises:
            Interrupted: Asked to stop; what is finished stays.
            SelftrainError: It can't be done; the error says what to do.
        """
        return self._by_kind[type(job)](job, folder)

    def _over(self, function: Callable[[Sequence[int]], Any]) -> list[Any]:
        return self._engine.over(function, range(len(self._pool.files)), self._watch)

    def _train(self, job: TrainJobs, _: StepFolder) -> Outcome:
        return self._engine.train(job, self._watch)

    def _label(self, job: LabelJobs, folder: StepFolder) -> Outcome:
        """Label the fragments that no earlier attempt finished."""
        files = self._pool.files
        reports = {i: kept for i in range(len(files)) if (kept := finished(folder, i)) is not None}
        if reports:
            self._watch.say(f"going on: {len(reports)} of {len(files)} fragments are labelled")
        rest = [i for i in range(len(files)) if i not in reports]
        total = sum(files[i].rows or 0 for i in rest)
        done, began = 0, time.perf_counter()
        for report in self._engine.label(job, rest, self._watch) if rest else ():
            if report.fragment in reports:
                raise DataError(f"fragment {report.fragment} was labelled twice")
            reports[report.fragment] = report
            done += (report.file.rows or 0) + len(report.refused)
            rate = done / max(1e-9, time.perf_counter() - began)
            self._watch.progress("rows", done, total, rows_per_s=rate)
        most = self._most_refused_share
        return gather(job, folder, reports.values(), most_refused_share=most, fresh=rest)
