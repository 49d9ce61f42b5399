"""Score a teacher on the rows with ground truth."""

import pyarrow as pa
import torch

from orchestrator.data.dataset import Dataset, Split
from orchestrator.errors import DataError
from orchestrator.jobs.asking import tell
from orchestrator.jobs.decoded import decoded_fragment
from orchestrator.jobs.job import ScoreJob
from orchestrator.jobs.training import load_teacher
from orchestrator.store.store import Outcome, Store
from trainables.tasks.task import task_of


def run_scoring(job: ScoreJob, device: str = "cpu") -> Outcome:
    """The task's scores of both splits."""
    store, data = Store(job.store), Dataset(job.data)
    model = load_teacher(store, job, job.train).to(device).to(memory_format=torch.channels_last)
    metrics = {
        name: _scores(job, data, split, model, torch.device(device))
        for name, split in (("validation", data.manifest.validation), ("test", data.manifest.test))
    }
    return Outcome((), {n: int(m["rows"]) for n, m in metrics.items()}, metrics)


def _scores(
    job: ScoreJob, data: Dataset, split: Split, model: torch.nn.Module, device: torch.device
) -> dict[str, float]:
    truth, told = [], []
    for entry in split.files:
        decoded = decoded_fragment(data, entry, job.form)
        if decoded.refused:
            name, reason = next(iter(decoded.refused.items()))
            raise DataError(f"{entry.name}, row {name!r}: {reason}; prepare the data again")
        truth.append(data.read(entry, ["example_id", "label"]))
        told.append(tell(model, decoded, job.task, job.scoring, device))
    return task_of(job.task).measure(pa.concat_tables(truth), pa.concat_tables(told))
