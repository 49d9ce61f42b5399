"""Label the pool: one fragment of it becomes one shard of the prediction table."""

import json
import time
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import pyarrow as pa
import torch
from pydantic import TypeAdapter
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DataError
from orchestrator.jobs.decoded import Decoded, decode_rows, decoded_fragment
from orchestrator.jobs.job import CrossLabelJob, LabelJob
from orchestrator.jobs.training import fold_of, load_teacher
from orchestrator.recipe import LabellingSpec
from orchestrator.store.record import FileEntry
from orchestrator.store.store import Outcome, StepFolder, Store, dumps
from trainables import schemas
from trainables.beliefs import Beliefs
from trainables.spec import Spec


class ShardReport(Spec):
    """What labelling one fragment gave."""

    fragment: int
    """Number of the pool fragment."""
    file: FileEntry
    """The shard."""
    class_rows: tuple[int, ...]
    """Rows predicted as each class."""
    refused: dict[str, str] = {}
    """Reasons by id of the rows that could not be labelled."""
    began_at: float = 0.0
    """When the work on it began, in seconds of the worker's clock."""
    ended_at: float = 0.0
    """When it was written, in seconds of the worker's clock."""


class Labeller:
    """A process that labels fragments with one teacher; the same rows give the same shard."""

    def __init__(self, job: LabelJob, device: str = "cpu") -> None:
        self._job = job
        self._store, self._data = Store(job.store), Dataset(job.data)
        self._folder = self._store.folder("label", job.address)
        self._device = torch.device(device)
        model = load_teacher(self._store, job, job.train)
        self._model = model.to(self._device).to(memory_format=torch.channels_last)

    def label(self, fragment: int) -> ShardReport:
        """Label one fragment and write its shard, unless an earlier attempt already did."""
        if (kept := finished(self._folder, fragment)) is not None:
            return kept
        job, began_at = self._job, time.time()
        entry = self._data.manifest.pool.files[fragment]
        decoded = decoded_fragment(self._data, entry, job.form)
        beliefs = predict(
            self._model, decoded, job.labelling, job.rows_per_pass, self._device, job.num_classes
        )
        table = beliefs.to_table(schemas.predictions(job.num_classes))
        table = schemas.conform(table, table.schema, f"predictions of fragment {fragment}")
        report = ShardReport(
            fragment=fragment,
            file=self._folder.write_table(f"part-{fragment:05d}.parquet", table),
            class_rows=tuple(np.bincount(beliefs.labels, minlength=job.num_classes).tolist()),
            refused=decoded.refused,
            began_at=began_at,
            ended_at=time.time(),
        )
        self._folder.note(_note(fragment), dumps(report.plain()))
        return report


@torch.inference_mode()
def predict(
    model: nn.Module,
    decoded: Decoded,
    labelling: LabellingSpec,
    rows_per_pass: int,
    device: torch.device,
    num_classes: int,
) -> Beliefs:
    """What the model believes about decoded images; log-probabilities are float32.

    Raises:
        DataError: The model returns numbers that are not finite.
    """
    blocks = [
        _log_probs(model, decoded.pixels[at : at + rows_per_pass], labelling, device)
        for at in range(0, len(decoded.pixels), rows_per_pass)
    ]
    log_probs = np.concatenate(blocks or [np.zeros((0, num_classes), np.float32)])
    if np.isnan(log_probs).any():
        raise DataError(
            "the teacher's predictions are not numbers, so its training diverged: lower "
            "recipe.training.optimiser.learning_rate or set its max_grad_norm"
        )
    return Beliefs.of_log_probs(decoded.example_ids, log_probs)


def _log_probs(
    model: nn.Module, pixels: np.ndarray, labelling: LabellingSpec, device: torch.device
) -> np.ndarray:
    images = torch.from_numpy(pixels).to(device).float().div_(255)
    images = images.contiguous(memory_format=torch.channels_last)
    found = torch.log_softmax(model(images).float() / labelling.temperature, dim=1)
    if labelling.flips:
        mirrored = torch.log_softmax(model(images.flip(3)).float() / labelling.temperature, dim=1)
        found = torch.logaddexp(found, mirrored) - float(np.log(2))
    array: np.ndarray = found.cpu().numpy()
    return array


def finished(folder: StepFolder, fragment: int) -> ShardReport | None:
    """The report of a shard that an earlier attempt finished and that is still intact."""
    if (kept := folder.noted(_note(fragment))) is None:
        return None
    report = TypeAdapter(ShardReport).validate_python(json.loads(kept))
    return report if folder.intact(report.file) else None


def _note(fragment: int) -> str:
    return f"part-{fragment:05d}.json"


def gather(
    job: LabelJob,
    folder: StepFolder,
    reports: Iterable[ShardReport],
    *,
    most_refused_share: float,
    fresh: Collection[int],
) -> Outcome:
    """The outcome of a labelling step from the reports of all its fragments.

    ``fresh`` are the fragments labelled in this attempt; the speed is theirs, without start-up.

    Raises:
        DataError: A fragment was labelled twice or not at all, rows were lost, or more than the
            allowed share of rows was refused.
    """
    pool = Dataset(job.data).manifest.pool
    by_fragment: dict[int, ShardReport] = {}
    for report in reports:
        if report.fragment in by_fragment:
            raise DataError(f"fragment {report.fragment} was labelled twice")
        by_fragment[report.fragment] = report
    if missing := set(range(len(pool.files))) - by_fragment.keys():
        raise DataError(f"fragments {sorted(missing)[:10]} were not labelled")
    ordered = [by_fragment[i] for i in sorted(by_fragment)]
    refused = [(i, f"fragment {r.fragment}", why) for r in ordered for i, why in r.refused.items()]
    labelled = sum(r.file.rows or 0 for r in ordered)
    if labelled + len(refused) != pool.num_rows:
        raise DataError(
            f"{labelled} rows labelled and {len(refused)} refused of {pool.num_rows} in the pool"
        )
    if len(refused) > most_refused_share * pool.num_rows:
        shown = "; ".join(f"{name}: {why}" for name, _, why in refused[:5])
        raise DataError(
            f"{len(refused)} of {pool.num_rows} pool rows can't be decoded, more than the share "
            f"{most_refused_share} that placement.most_refused_share allows: {shown}"
        )
    files = [r.file for r in ordered]
    if refused:
        columns = [pa.array(column, pa.string()) for column in zip(*refused, strict=True)]
        files.append(
            folder.write_table("refused.parquet", pa.table(columns, schema=schemas.REFUSED))
        )
    class_rows = np.sum([r.class_rows for r in ordered], axis=0).tolist()
    counts = {"rows": labelled, "refused": len(refused), "class_rows": class_rows}
    return Outcome(tuple(files), counts, _speed([by_fragment[i] for i in fresh]))


def _speed(reports: list[ShardReport]) -> dict[str, float]:
    """Seconds from the first row to the last shard, and rows per second in between."""
    if not reports:
        return {}
    work_s = max(r.ended_at for r in reports) - min(r.began_at for r in reports)
    rows = sum(r.file.rows or 0 for r in reports)
    return {"work_s": work_s, "rows_per_s": rows / max(1e-9, work_s)}


def label_out_of_fold(job: CrossLabelJob) -> Outcome:
    """Predictions of every labelled row by the fold student that never saw it."""
    store, data = Store(job.store), Dataset(job.data)
    folder = store.folder("cross_label", job.address)
    table = data.table(data.manifest.labelled).sort_by("example_id")
    fold = fold_of(table["example_id"].to_pylist(), len(job.folds))
    blocks = list(_fold_beliefs(job, store, table, fold))
    schema = schemas.predictions(job.num_classes)
    merged = pa.concat_tables([b.to_table(schema) for b in blocks]).sort_by("example_id")
    right = sum(
        int((b.labels == table.filter(pa.array(fold == k))["label"].to_numpy()).sum())
        for k, b in enumerate(blocks)
    )
    entry = folder.write_table("out_of_fold.parquet", merged)
    return Outcome((entry,), {"rows": merged.num_rows}, {"accuracy": right / merged.num_rows})


def _fold_beliefs(
    job: CrossLabelJob, store: Store, table: pa.Table, fold: np.ndarray
) -> Iterator[Beliefs]:
    for number, train in enumerate(job.folds):
        rows = table.filter(pa.array(fold == number))
        decoded = decode_rows(rows["example_id"].to_pylist(), rows["image"].to_pylist(), job.form)
        model = load_teacher(store, job, train)
        yield predict(model, decoded, job.labelling, 512, torch.device("cpu"), job.num_classes)
