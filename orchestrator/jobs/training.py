"""Train one student: read the tables, run the loop, keep checkpoints, write the weights."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.distributed as dist
from pydantic import TypeAdapter
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, DataError, Interrupted, LostWorkError
from orchestrator.jobs.decoded import decode_rows, decoded_part
from orchestrator.jobs.job import Form, Job, TrainJob
from orchestrator.store.record import Record
from orchestrator.store.store import Outcome, StepFolder, Store, dumps
from orchestrator.watch import Watch
from trainables.batches import Source, TrainingSet, repeat_rare
from trainables.checkpoint import (
    state_from_bytes,
    state_to_bytes,
    weights_from_bytes,
    weights_to_bytes,
)
from trainables.models import (
    AnyModel,
    ModelSpec,
    TimmModel,
    build,
    has_batch_norm,
    num_parameters,
)
from trainables.randomness import derive, id_hash
from trainables.student import Progress, TrainState, fit, start
from trainables.worker import Worker

MADE = "images.parquet"
CHECKPOINT = "checkpoint.safetensors"
OUT_OF_FOLD = "out_of_fold.parquet"
TEACHER, STUDENT, MODEL = "teacher.safetensors", "student.safetensors", "model.json"
REPORT_EVERY_S = 0.2
STOP_EVERY_STEPS = 8
"""Workers agree on stopping this often; one at a time would leave the others waiting."""


def build_model(student: AnyModel, form: Form, num_classes: int, seed: int) -> nn.Module:
    """A network with the initial weights that the seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        return build(student, form.channels, form.size, num_classes)


def load_teacher(store: Store, job: Job, train: str, checkpoint: int | None = None) -> nn.Module:
    """A teacher that a finished training step left, in evaluation mode, on the CPU.

    ``checkpoint`` numbers those that it kept on its way; None is the final one.
    """
    record = store.record("train", train)
    spec = record.identity["reads"]["student"]
    student: AnyModel = TypeAdapter(ModelSpec).validate_python(spec)
    student = student.model_copy(update={"checkpoint": None})
    if isinstance(student, TimmModel):
        student = student.model_copy(update={"pretrained": False})
    model = build_model(student, job.form, job.num_classes, 0)
    file = TEACHER if checkpoint is None else kept_teacher(checkpoint)
    weights_from_bytes(store.read(record, file), model)
    return model.eval()


def kept_teacher(number: int) -> str:
    """Name of the file of a teacher that was kept before the end of its round."""
    return f"teacher-at-{number}.safetensors"


def run_training(job: TrainJob, worker: Worker, watch: Watch) -> Outcome | None:
    """Train; the first worker writes the weights and returns the outcome, the others None.

    Goes on from the newest checkpoint that an earlier attempt left.

    Raises:
        Interrupted: The watch asked to stop; a checkpoint was written.
    """
    store, data = Store(job.store), Dataset(job.data)
    folder = store.folder("train", job.address)
    training_set = load_training_set(job, store, data)
    model = build_model(job.student, job.form, job.num_classes, job.seed)
    if job.rows_per_pass and has_batch_norm(model):
        raise ConfigError(
            "placement.rows_per_pass would change the result: this student's batch norm "
            "normalises over the rows of one pass; set it to 0, or use a student without batch "
            "norm (small_cnn with norm: group)"
        )
    if job.start is not None:
        weights_from_bytes(store.read(store.record("train", job.start), TEACHER), model)
    pool_rows = len(training_set.pool) if training_set.pool else 0
    partner = None
    if job.training.partner is not None:
        partner = build_model(job.student, job.form, job.num_classes, derive(job.seed, "partner"))
    state = start(job.training, model, job.num_classes, worker, pool_rows, partner, job.seed)
    if (kept := folder.noted(CHECKPOINT)) is not None:
        state_from_bytes(kept, state)
        watch.say(f"going on from step {state.step} of {job.num_steps}")
    _check_together(state.step, worker)
    first_step, began = state.step, time.perf_counter()
    listener = _Listener(job, folder, worker, watch)
    terms = fit(
        job.training,
        state,
        training_set,
        job.num_steps,
        seed=job.seed,
        worker=worker,
        listen=listener,
    )
    loop_s = time.perf_counter() - began
    if worker.rank != 0:
        return None
    files = [
        folder.write(TEACHER, weights_to_bytes(state.teacher)),
        folder.write(MODEL, dumps({"parameters": num_parameters(model)})),
    ]
    files += [folder.write(name, content) for name, content in _kept_teachers(job, folder)]
    if state.teacher is not state.student:
        files.append(folder.write(STUDENT, weights_to_bytes(state.student)))
    counts = {
        "steps": job.num_steps,
        "steps_this_attempt": job.num_steps - first_step,
        "labelled_rows": len(training_set.labelled),
        "selected_rows": len(training_set.selected) if training_set.selected else 0,
        "pool_rows": len(training_set.pool) if training_set.pool else 0,
    }
    metrics = {"loss": terms, "loop_s": loop_s, "images_per_s": listener.images_per_s}
    return Outcome(tuple(files), counts, metrics)


def _kept_teachers(job: TrainJob, folder: StepFolder) -> Iterator[tuple[str, bytes]]:
    """Files of the teachers that were noted on the way."""
    for number in range(len(job.keep_at)):
        name = kept_teacher(number)
        if (content := folder.noted(name)) is None:
            raise LostWorkError(f"{name} of an unfinished training is gone: start the run again")
        yield name, content


def _check_together(step: int, worker: Worker) -> None:
    """All workers go on from the same step, or none does.

    Raises:
        LostWorkError: They read different checkpoints.
    """
    if worker.world == 1:
        return
    bounds = torch.tensor([float(step), -float(step)], device=worker.device)
    dist.all_reduce(bounds, op=dist.ReduceOp.MAX)
    if bounds[0] != -bounds[1]:
        raise LostWorkError(
            f"workers read checkpoints of steps {-int(bounds[1])} to {int(bounds[0])}: the store "
            "is not the same for all of them, or an older group still writes"
        )


@dataclass
class _Listener:
    """Between two steps: tell the progress, keep a checkpoint, hear whether to stop."""

    job: TrainJob
    folder: StepFolder
    worker: Worker
    watch: Watch
    images_per_s: float = 0.0
    kept_at: float = 0.0
    told_at: float = 0.0

    def __call__(self, progress: Progress, state: TrainState) -> None:
        now = time.monotonic()
        self.kept_at = self.kept_at or now
        self.images_per_s = progress.images_per_s
        done = progress.step >= progress.num_steps
        stopping = not done and self._all_stop(progress.step)
        if self.worker.rank == 0:
            for number, share in enumerate(self.job.keep_at):
                if progress.step == max(1, round(share * progress.num_steps)):
                    self.folder.note(kept_teacher(number), weights_to_bytes(state.teacher))
            self._tell_and_keep(progress, state, now, done=done, stopping=stopping)
        if stopping:
            raise Interrupted(f"training stopped after step {progress.step}, checkpoint kept")

    def _all_stop(self, step: int) -> bool:
        """Whether to stop after this step; all workers answer alike."""
        if self.worker.world == 1:
            return self.watch.stopping()
        if step % STOP_EVERY_STEPS:
            return False
        wish = torch.tensor(float(self.watch.stopping()), device=self.worker.device)
        dist.all_reduce(wish)
        return bool(wish > 0)

    def _tell_and_keep(
        self, progress: Progress, state: TrainState, now: float, *, done: bool, stopping: bool
    ) -> None:
        if done or now - self.told_at >= REPORT_EVERY_S:
            self.told_at = now
            self.watch.progress(
                "steps",
                progress.step,
                progress.num_steps,
                loss=progress.loss,
                images_per_s=progress.images_per_s,
            )
        if stopping or (not done and now - self.kept_at >= self.job.checkpoint_every_s):
            self.folder.note(CHECKPOINT, state_to_bytes(state))
            self.kept_at = time.monotonic()


def load_training_set(job: TrainJob, store: Store, data: Dataset) -> TrainingSet:
    """The rows that this job may draw from, decoded, in the canonical order of their ids.

    Only rows that a batch can reach are held: all labelled ones, the selection, and of the pool at
    most as many as the steps will draw (a seeded choice by id).
    """
    labelled = data.table(data.manifest.labelled).sort_by("example_id")
    if job.fold is not None:
        fold = fold_of(labelled["example_id"].to_pylist(), job.fold.of)
        labelled = labelled.filter(pa.array(fold != job.fold.number))
    labelled = _known(labelled, job)
    bank = _Bank()
    own = decode_rows(labelled, job.form)
    if own.refused:
        name, reason = next(iter(own.refused.items()))
        raise DataError(f"labelled row {name!r}: {reason}; prepare the data again")
    bank.add(own.example_ids, own.pixels)
    plan = job.training.batch
    shards: list[pa.Table] | None = None
    if job.selection is not None and plan.selected:
        shards = _selected_shards(store.record("select", job.selection), store)
        shards = [_known(shard, job) for shard in shards]
        shards = shards if any(shard.num_rows for shard in shards) else None
    made = _made_rows(job, store) if job.extension is not None and shards is not None else None
    if made is not None:
        extra = decode_rows(made, job.form)
        bank.add(extra.example_ids, extra.pixels)
    wanted = plan.pool * job.num_steps if job.training.reads_pool else 0
    drawn = _add_pool(bank, data, job, shards, wanted)
    images = bank.images()
    labels = torch.from_numpy(labelled["label"].to_numpy().astype(np.int64))
    return TrainingSet(
        Source(images, bank.places(own.example_ids), labels),
        _selected_source(bank, images, shards, made, job) if shards else None,
        Source(images, bank.places(sorted(drawn))) if wanted else None,
        _told_out_of_fold(job, store, own.example_ids),
    )


def _known(table: pa.Table, job: TrainJob) -> pa.Table:
    """The rows of the classes that the student is to know.

    Raises:
        DataError: A specialist is left without labelled rows.
    """
    if not job.classes:
        return table
    found = table.filter(pc.is_in(table["label"], pa.array(job.classes, pa.int32())))
    if job.form.column in table.column_names and not found.num_rows:
        raise DataError(
            f"no labelled row of the classes {list(job.classes)} for a specialist: label some, or "
            "lower recipe.labelling.specialists"
        )
    return found


def _told_out_of_fold(job: TrainJob, store: Store, example_ids: list[str]) -> torch.Tensor | None:
    """Classes int64 [N] that out-of-fold students gave labelled rows, if the loss reads them."""
    if job.out_of_fold is None:
        return None
    table = store.read_table(store.record("cross_label", job.out_of_fold), OUT_OF_FOLD)
    told = dict(zip(table["example_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    return torch.tensor([told[name] for name in example_ids], dtype=torch.int64)


def fold_of(example_ids: list[str], folds: int) -> np.ndarray:
    """The fold that each labelled row belongs to, int64 [N]: by the hash of its id, in turn."""
    order = np.lexsort((np.array(example_ids), id_hash(0, example_ids)))
    fold = np.empty(len(example_ids), np.int64)
    fold[order] = np.arange(len(example_ids)) % folds
    return fold


def _selected_shards(record: Record, store: Store) -> list[pa.Table]:
    """The selection's shards, aligned with the fragments of the pool."""
    return [store.read_table(record, f.name) for f in record.files if f.name.startswith("part-")]


def _made_rows(job: TrainJob, store: Store) -> pa.Table:
    """The images that a generator made, as rows like those of the labelled set."""
    assert job.extension is not None  # noqa: S101 - the caller checked
    return store.read_table(store.record("extend", job.extension), MADE)


def _as_selected(made: pa.Table, schema: pa.Schema, num_classes: int) -> pa.Table:
    """Made images as rows of a selection of this schema, each of weight 1."""
    labels, kind = made["label"].combine_chunks(), schema.field("target").type
    target = labels
    if pa.types.is_fixed_size_list(kind):
        hot = np.eye(num_classes, dtype=np.float32)[labels.to_numpy()]
        target = pa.FixedSizeListArray.from_arrays(pa.array(hot.ravel()), type=kind)
    ids, ones = made["example_id"].combine_chunks(), np.ones(made.num_rows, np.float32)
    return pa.table([ids, labels, target, pa.array(ones)], schema=schema)


def _selected_source(
    bank: "_Bank",
    images: torch.Tensor,
    shards: list[pa.Table],
    made: pa.Table | None,
    job: TrainJob,
) -> Source:
    chosen = pa.concat_tables(shards)
    if made is not None:
        more = _as_selected(made, chosen.schema, job.num_classes)
        chosen = pa.concat_tables([chosen, more])
    chosen = chosen.sort_by("example_id").combine_chunks()
    places = bank.places(chosen["example_id"].to_pylist())
    target = chosen["target"].combine_chunks()
    if pa.types.is_fixed_size_list(target.type):
        flat = target.flatten().to_numpy(zero_copy_only=False)
        targets = torch.from_numpy(flat.reshape(-1, job.num_classes).copy())
    else:
        targets = torch.from_numpy(target.to_numpy().astype(np.int64))
    weights = torch.from_numpy(chosen["weight"].to_numpy().astype(np.float32))
    most = job.training.batch.max_copies
    if most == 1:
        return Source(images, places, targets, weights)
    copies = repeat_rare(chosen["label"].to_numpy(), job.num_classes, most, job.seed)
    at = torch.from_numpy(copies)
    return Source(images, places[copies], targets[at], weights[at])


def _add_pool(
    bank: "_Bank", data: Dataset, job: TrainJob, shards: list[pa.Table] | None, wanted: int
) -> list[str]:
    """Hold the selected rows and, if the loss reads the pool, ``wanted`` of its rows or all."""
    if shards is None and not wanted:
        return []
    pool = data.manifest.pool
    drawn: list[str] = []

    def by_lot(ids: list[str]) -> np.ndarray:
        if not wanted:
            return np.zeros(len(ids), bool)
        return np.asarray(id_hash(job.seed, ids) < (wanted / pool.num_rows) * 2.0**32)

    for number, entry in enumerate(pool.files):
        accepted = set(shards[number]["example_id"].to_pylist()) if shards is not None else set()

        def reached(ids: list[str], accepted: set[str] = accepted) -> np.ndarray:
            return np.asarray(by_lot(ids) | np.array([name in accepted for name in ids], bool))

        part = decoded_part(data, entry, job.form, reached)
        lot = by_lot(part.example_ids)
        drawn += [name for name, yes in zip(part.example_ids, lot.tolist(), strict=True) if yes]
        bank.add(part.example_ids, part.pixels)
    return drawn


class _Bank:
    """Decoded images or features of one form, found by id."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._blocks: list[np.ndarray] = []

    def add(self, ids: list[str], pixels: np.ndarray) -> None:
        """Hold rows: their ids and images uint8 [N, C, H, W] or features float16 [N, D, 1, 1]."""
        first = len(self._place)
        self._place.update({name: first + i for i, name in enumerate(ids)})
        self._blocks.append(pixels)

    def places(self, ids: list[str]) -> np.ndarray:
        """Places of rows, int64 [N]."""
        return np.array([self._place[name] for name in ids], dtype=np.int64)

    def images(self) -> torch.Tensor:
        """All images uint8 [M, C, H, W], or features float16 [M, D, 1, 1]."""
        return torch.from_numpy(np.concatenate(self._blocks))
