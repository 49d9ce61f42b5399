"""Find points in the pool: one fragment of it becomes one shard of the prediction table."""

import time

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DataError
from orchestrator.jobs.decoded import Decoded, decoded_fragment
from orchestrator.jobs.job import PointLabelJob
from orchestrator.jobs.labelling import ShardReport, finished, note_report, refused_of
from orchestrator.jobs.predicting import not_numbers
from orchestrator.jobs.shards import shard_name
from orchestrator.jobs.training import load_teacher
from orchestrator.landmark_recipe import LandmarkLabelling
from orchestrator.store.store import Store
from trainables import schemas
from trainables.landmarks.found import Asked, find
from trainables.landmarks.tables import point_predictions, prediction_table
from trainables.tasks.kinds import Points
from trainables.tasks.task import task_of


class PointLabeller:
    """A process that labels fragments with one teacher; the same rows give the same shard."""

    def __init__(self, job: PointLabelJob, device: str = "cpu") -> None:
        self._job = job
        self._store, self._data = Store(job.store), Dataset(job.data)
        self._folder = self._store.folder("label", job.address)
        self._device = torch.device(device)
        teacher = load_teacher(self._store, job, job.train)
        self._model = teacher.to(self._device).to(memory_format=torch.channels_last)

    def label(self, fragment: int) -> ShardReport:
        """Label one fragment and write its shard, unless an earlier attempt already did."""
        if (kept := finished(self._folder, fragment)) is not None:
            return kept
        job, began_at = self._job, time.time()
        decoded = decoded_fragment(self._data, self._data.manifest.pool.files[fragment], job.form)
        assert isinstance(job.task, Points)  # noqa: S101 - such a job is of such a task
        table = points_in(
            self._model,
            decoded,
            asked(job.labelling, job.sigma_px),
            job.task,
            rows_per_pass=job.rows_per_pass,
            device=self._device,
            partly=True,
        )
        where = f"predictions of fragment {fragment}"
        table = schemas.conform(table, point_predictions(job.task.num_points), where)
        report = ShardReport(
            fragment=fragment,
            file=self._folder.write_table(shard_name(fragment), table),
            class_rows=tuple(task_of(job.task).predicted(table).tolist()),
            refused=refused_of(decoded, table["example_id"].to_pylist()),
            began_at=began_at,
            ended_at=time.time(),
        )
        note_report(self._folder, report)
        return report


def asked(labelling: LandmarkLabelling, sigma_px: float) -> Asked:
    """How a network is asked, from the settings of the recipe."""
    return Asked(
        tracking=labelling.tracking,
        flips=labelling.flips,
        views=labelling.views,
        view=labelling.view,
        candidates=labelling.candidates,
        precision=labelling.precision,
        sigma_px=sigma_px,
    )


def points_in(
    model: nn.Module,
    decoded: Decoded,
    how: Asked,
    task: Points,
    *,
    rows_per_pass: int,
    device: torch.device,
    partly: bool = False,
) -> pa.Table:
    """Rows of the prediction table for decoded images.

    With ``partly`` rows of NaN are left out.

    Raises:
        DataError: The network returns NaN, and ``partly`` is false.
    """
    found = find(
        model,
        decoded.pixels,
        decoded.frames_of(),
        how,
        task.mirrored,
        rows_per_pass=rows_per_pass,
        device=device,
    )
    table = prediction_table(decoded.example_ids, found, task.num_points)
    broken = np.logical_not((found.peak >= 0).all(axis=1))
    if not partly and broken.any():
        raise DataError(f"points that are not numbers: {not_numbers(foreign=False)}")
    return table.filter(pa.array(~broken))
