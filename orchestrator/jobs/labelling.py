"""Label the pool: one fragment of it becomes one shard of the prediction table."""

import json
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import TypeAdapter
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, DataError
from orchestrator.jobs.decoded import Decoded, decode_rows, decoded_fragment
from orchestrator.jobs.job import CrossLabelJob, Job, LabelJob, LabelJobs
from orchestrator.jobs.nearness import nearness_in_fold, write_nearness
from orchestrator.jobs.predicting import not_numbers, predict, predict_in_passes
from orchestrator.jobs.shards import shard_name
from orchestrator.jobs.training import load_teacher
from orchestrator.jobs.training_rows import OUT_OF_FOLD, fold_of
from orchestrator.store.record import FileEntry
from orchestrator.store.store import Outcome, StepFolder, Store, dumps
from trainables import schemas
from trainables.beliefs import Beliefs
from trainables.combining import Specialists, combined
from trainables.foreign import CallableSource, ForeignSource, load_source
from trainables.neighbours import prototypes
from trainables.spec import Spec
from trainables.specialists import Restricted

NO_NUMBER = "labelled with what is not a number"
"""Why a row is refused for which a network returns NaN."""


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
        self._model = load_labeller(self._store, job).to(self._device)
        if job.source is None:
            self._model = self._model.to(memory_format=torch.channels_last)

    def label(self, fragment: int) -> ShardReport:
        """Label one fragment and write its shard, unless an earlier attempt already did."""
        if (kept := finished(self._folder, fragment)) is not None:
            return kept
        job, began_at = self._job, time.time()
        entry = self._data.manifest.pool.files[fragment]
        decoded = decoded_fragment(self._data, entry, job.form)
        if job.labelling.in_passes and job.source is None:
            beliefs = predict_in_passes(
                self._model,
                decoded,
                job.labelling,
                self._device,
                job.num_classes,
                seed=fragment,
                features=job.features,
                partly=True,
            )
        else:
            beliefs = predict(
                self._model,
                decoded,
                job.labelling,
                job.rows_per_pass,
                self._device,
                job.num_classes,
                foreign=job.source is not None,
                features=job.features,
                partly=True,
            )
        if (broken := np.isnan(beliefs.log_probs).any(axis=1)).any():
            beliefs = beliefs.taken(np.flatnonzero(~broken))
        doubt, width = beliefs.doubt is not None, beliefs.num_features
        schema = schemas.predictions(job.num_classes, doubt=doubt, features=width)
        table = beliefs.to_table(schema)
        table = schemas.conform(table, table.schema, f"predictions of fragment {fragment}")
        report = ShardReport(
            fragment=fragment,
            file=self._folder.write_table(shard_name(fragment), table),
            class_rows=tuple(np.bincount(beliefs.labels, minlength=job.num_classes).tolist()),
            refused=refused_of(decoded, beliefs.example_ids),
            began_at=began_at,
            ended_at=time.time(),
        )
        note_report(self._folder, report)
        return report


def load_labeller(store: Store, job: LabelJob) -> nn.Module:
    """The network that labels, in evaluation mode: a step's teacher or a foreign source.

    Raises:
        ConfigError: The foreign source can't be loaded or does not fit the classes.
    """
    if job.train is not None:
        teacher = load_teacher(store, job, job.train, job.checkpoint)
        if not job.classes:
            return teacher
        return Restricted(teacher, job.classes, job.num_classes).eval()
    assert job.source is not None  # noqa: S101 - one of the two is set
    return foreign_network(job.source, job)


def foreign_network(source: ForeignSource, job: Job) -> nn.Module:
    """A foreign source, in evaluation mode; it was tried on one empty image.

    Raises:
        ConfigError: It can't be loaded or does not fit the classes.
    """
    try:
        network = load_source(source, job.num_classes).eval()
        with torch.inference_mode():
            network(torch.zeros(1, job.form.channels, job.form.size, job.form.size))
    except Exception as error:  # readers of weights and functions of users raise whatever they like
        name = source.target if isinstance(source, CallableSource) else source.model
        raise ConfigError(f"recipe.labelling.foreign: {name}: {error}") from error
    return network


def refused_of(decoded: Decoded, labelled: Collection[str]) -> dict[str, str]:
    """Reasons by id of a fragment's rows that are not among the labelled ones."""
    known = set(labelled)
    unlabelled = (name for name in decoded.example_ids if name not in known)
    return decoded.refused | dict.fromkeys(unlabelled, NO_NUMBER)


def finished(folder: StepFolder, fragment: int) -> ShardReport | None:
    """The report of a shard that an earlier attempt finished and that is still intact."""
    if (kept := folder.noted(_note(fragment))) is None:
        return None
    report = TypeAdapter(ShardReport).validate_python(json.loads(kept))
    return report if folder.intact(report.file) else None


def note_report(folder: StepFolder, report: ShardReport) -> None:
    """Note that a shard is finished, for attempts to come."""
    folder.note(_note(report.fragment), dumps(report.plain()))


def _note(fragment: int) -> str:
    return f"part-{fragment:05d}.json"


def gather(
    job: LabelJobs,
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
        foreign = isinstance(job, LabelJob) and job.source is not None
        odd = any(why == NO_NUMBER for _, _, why in refused)
        hint = f"; {not_numbers(foreign=foreign)}" if odd else ""
        raise DataError(
            f"{len(refused)} of {pool.num_rows} pool rows can't be labelled, more than the share "
            f"{most_refused_share} that placement.most_refused_share allows: {shown}{hint}"
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


def label_out_of_fold(job: CrossLabelJob, device: str = "cpu") -> Outcome:
    """Predictions of labelled rows by the fold students that never saw them, asked as the pool is.

    What several students, earlier rounds or other sources say of the pool has no counterpart here.
    """
    store, data, where = Store(job.store), Dataset(job.data), torch.device(device)
    folder = store.folder("cross_label", job.address)
    table = data.table(data.manifest.labelled).sort_by("example_id")
    fold = fold_of(table["example_id"].to_pylist(), max(1, len(job.folds)))
    near: tuple[FileEntry, ...] = ()
    if job.train is not None:
        near = _write_nearness(job, job.train, store, folder, table, fold, where)
    blocks = list(_fold_beliefs(job, store, table, fold, where))
    if job.sources:
        blocks = [_foreign_beliefs(job, table, where)]
    schema = schemas.predictions(job.num_classes)
    merged = pa.concat_tables([b.to_table(schema) for b in blocks]).sort_by("example_id")
    at = pc.index_in(merged["example_id"], table["example_id"].combine_chunks())
    right = int((merged["label"].to_numpy() == table["label"].take(at).to_numpy()).sum())
    entry = folder.write_table(OUT_OF_FOLD, merged)
    accuracy = right / max(1, merged.num_rows)
    return Outcome((entry, *near), {"rows": merged.num_rows}, {"accuracy": accuracy})


def _fold_beliefs(
    job: CrossLabelJob, store: Store, table: pa.Table, fold: np.ndarray, device: torch.device
) -> Iterator[Beliefs]:
    for number, train in enumerate(job.folds):
        rows = table.filter(pa.array(fold == number))
        decoded = decode_rows(rows, job.form)
        model = load_teacher(store, job, train).to(device)
        if job.labelling.in_passes:
            asked = (model, decoded, job.labelling, device, job.num_classes)
            yield predict_in_passes(*asked, seed=number)
        else:
            yield predict(model, decoded, job.labelling, 512, device, job.num_classes)


def _write_nearness(
    job: CrossLabelJob,
    train: str,
    store: Store,
    folder: StepFolder,
    table: pa.Table,
    fold: np.ndarray,
    device: torch.device,
) -> tuple[FileEntry, ...]:
    """Write how near labelled rows are to the classes for the fold student that never saw them."""
    decoded = decode_rows(table, job.form)
    labels = table["label"].to_numpy().astype(np.int64)

    def features(step: str) -> np.ndarray:
        model = load_teacher(store, job, step).to(device)
        return predict(
            model, decoded, job.labelling, 512, device, job.num_classes, features=True
        ).located()

    cosines = np.zeros((len(labels), job.num_classes), np.float32)
    for number, step in enumerate(job.folds):
        mine = fold == number
        cosines[mine] = nearness_in_fold(features(step), labels, mine, job.num_classes)
    anchors = prototypes(features(train), labels, job.num_classes)
    return write_nearness(folder, decoded, cosines, anchors)


def _foreign_beliefs(job: CrossLabelJob, table: pa.Table, device: torch.device) -> Beliefs:
    """What the foreign sources believe together about the labelled rows, which they never saw.

    Rows that one of them labels with what is not a number are left out.
    """
    decoded = decode_rows(table, job.form)
    told = [
        predict(
            foreign_network(source, job).to(device),
            decoded,
            job.labelling,
            512,
            device,
            job.num_classes,
            foreign=True,
            partly=True,
        )
        for source in job.sources
    ]
    logs = np.stack([each.log_probs for each in told])
    good = np.flatnonzero(~np.isnan(logs).any(axis=(0, 2)))
    if len(told) == 1 and not isinstance(job.combine, Specialists):
        return told[0].taken(good)
    ids, logs = told[0].taken(good).example_ids, logs[:, good]
    return replace(combined(job.combine.fit(logs), ids, logs), doubt=None)
