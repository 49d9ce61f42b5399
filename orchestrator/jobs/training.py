"""Train one student: read the tables, run the loop, keep checkpoints, write the weights."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, Interrupted, LostWorkError
from orchestrator.jobs.job import Form, Job, PointTrainJob, TrainJob, TrainJobs
from orchestrator.jobs.point_rows import load_point_set
from orchestrator.jobs.training_rows import load_training_set
from orchestrator.store.store import Outcome, StepFolder, Store, dumps
from orchestrator.watch import Watch
from trainables.batches import TrainingSet
from trainables.checkpoint import (
    state_from_bytes,
    state_to_bytes,
    weights_from_bytes,
    weights_to_bytes,
)
from trainables.diagnostics import Diagnostics, diagnosed, diagnosed_points
from trainables.landmarks.rows import PointSet
from trainables.landmarks.student import begin_landmarks, fit_landmarks
from trainables.models import classifier_of, has_batch_norm, num_parameters
from trainables.randomness import derive
from trainables.state import Listener, Progress, TrainState
from trainables.student import fit, start
from trainables.tasks.kinds import Points, TaskSpec
from trainables.tasks.task import ANY_STUDENT, AnyStudent, task_of, without_weights
from trainables.worker import Worker

CHECKPOINT = "checkpoint.safetensors"
TEACHER, STUDENT, MODEL = "teacher.safetensors", "student.safetensors", "model.json"
REPORT_EVERY_S = 0.2
TOLD_IN_STEP = ("accepted_share", "mean_confidence", "entropy_of_mean", "not_finite")
SHOWN_AT_END = 256
"""Rows on which teacher and student are compared after the last step."""
SHOWN_AT_ONCE = 32
STOP_EVERY_STEPS = 8
"""Workers agree on stopping this often; one at a time would leave the others waiting."""


def build_model(student: AnyStudent, form: Form, task: TaskSpec, seed: int) -> nn.Module:
    """A network with the initial weights that the seed decides.

    Raises:
        ConfigError: There is no such network, or its file of weights is for another one.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            return task_of(task).network(student, form.channels, form.size)
    except (ValueError, RuntimeError) as error:  # torch's own where shapes differ
        raise ConfigError(f"recipe.student: {error}") from error


def load_teacher(store: Store, job: Job, train: str, checkpoint: int | None = None) -> nn.Module:
    """A teacher that a finished training step left, in evaluation mode, on the CPU.

    ``checkpoint`` numbers those that it kept on its way; None is the final one.
    """
    record = store.record("train", train)
    student = ANY_STUDENT.validate_python(record.identity["reads"]["student"])
    model = build_model(without_weights(student), job.form, job.task, 0)
    file = TEACHER if checkpoint is None else kept_teacher(checkpoint)
    weights_from_bytes(store.read(record, file), model)
    return model.eval()


def kept_teacher(number: int) -> str:
    """Name of the file of a teacher that was kept before the end of its round."""
    return f"teacher-at-{number}.safetensors"


def run_training(job: TrainJobs, worker: Worker, watch: Watch) -> Outcome | None:
    """Train; the first worker writes the weights and returns the outcome, the others None.

    Goes on from the newest checkpoint that an earlier attempt left.

    Raises:
        Interrupted: The watch asked to stop; a checkpoint was written.
    """
    store, data = Store(job.store), Dataset(job.data)
    folder = store.folder("train", job.address)
    model = build_model(job.student, job.form, job.task, job.seed)
    if job.rows_per_pass and has_batch_norm(model):
        raise ConfigError(
            "placement.rows_per_pass would change the result: this student's batch norm "
            "normalises over the rows of one pass; set it to 0, or use a student without batch "
            "norm (small_cnn with norm: group)"
        )
    if job.start is not None:
        own = copy.deepcopy(classifier_of(model).state_dict()) if job.new_classifier else None
        weights_from_bytes(store.read(store.record("train", job.start), TEACHER), model)
        if own is not None:
            classifier_of(model).load_state_dict(own)
    if isinstance(job, PointTrainJob):
        begun = begin_points(job, store, data, model, worker)
    else:
        begun = begin_classes(job, store, data, model, worker)
    state = begun.state
    if (kept := folder.noted(CHECKPOINT)) is not None:
        state_from_bytes(kept, state)
        watch.say(f"going on from step {state.step} of {job.num_steps}")
    _check_together(state.step, worker)
    first_step, began = state.step, time.perf_counter()
    listener = _Listener(job, folder, worker, watch)
    terms = begun.fit(listener)
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
        **begun.rows,
    }
    metrics = {
        "loss": terms,
        "loop_s": loop_s,
        "images_per_s": listener.images_per_s,
        "diagnostics": begun.diagnosed().plain(),
    }
    return Outcome(tuple(files), counts, metrics)


@dataclass(frozen=True)
class _Begun:
    """A training before its first step."""

    state: TrainState
    fit: Callable[[Listener], dict[str, float]]
    """Trains the state to the end; each term's mean."""
    diagnosed: Callable[[], Diagnostics]
    """What it tells of itself at its end."""
    rows: dict[str, int]
    """How many rows it draws from, by source."""


def begin_classes(
    job: TrainJob, store: Store, data: Dataset, model: nn.Module, worker: Worker
) -> _Begun:
    """The training of a student that tells classes apart."""
    rows = load_training_set(job, store, data)
    partner = None
    if job.training.partner is not None:
        partner = build_model(job.student, job.form, job.task, derive(job.seed, "partner"))
    pool_rows = len(rows.pool) if rows.pool else 0
    state = start(job.training, model, job.num_classes, worker, pool_rows, partner, job.seed)

    def fitted(listen: Listener) -> dict[str, float]:
        return fit(
            job.training, state, rows, job.num_steps, seed=job.seed, worker=worker, listen=listen
        )

    def told() -> Diagnostics:
        known = rows.class_rows(job.num_classes).tolist()
        shown = rows.shown(SHOWN_AT_END, worker.rows_per_pass or SHOWN_AT_ONCE, worker.device)
        return diagnosed(job.training, state, known, job.num_steps, shown)

    return _Begun(state, fitted, told, _counts(rows))


def begin_points(
    job: PointTrainJob, store: Store, data: Dataset, model: nn.Module, worker: Worker
) -> _Begun:
    """The training of a student that finds points."""
    task = job.task
    assert isinstance(task, Points)  # noqa: S101 - such a job is of such a task
    rows = load_point_set(job, store, data)
    partner = None
    if job.training.two_sources is not None:
        partner = build_model(job.student, job.form, job.task, derive(job.seed, "partner"))
        if job.start is not None:
            partner.load_state_dict(model.state_dict())
    state = begin_landmarks(job.training, model, worker, partner)

    def fitted(listen: Listener) -> dict[str, float]:
        return fit_landmarks(
            job.training,
            state,
            rows,
            task,
            job.num_steps,
            seed=job.seed,
            worker=worker,
            listen=listen,
        )

    def told() -> Diagnostics:
        return diagnosed_points(job.training, state, job.num_steps)

    return _Begun(state, fitted, told, _counts(rows))


def _counts(rows: TrainingSet | PointSet) -> dict[str, int]:
    return {
        "labelled_rows": len(rows.labelled),
        "selected_rows": len(rows.selected) if rows.selected else 0,
        "pool_rows": len(rows.pool) if rows.pool else 0,
    }


def _numbers(progress: Progress, state: TrainState) -> dict[str, float]:
    """What is told of a step: its terms, and what this part of the round accepted of the pool."""
    terms = progress.terms.items()
    found = {name if name == "loss" else f"loss/{name}": value for name, value in terms}
    found["images_per_s"] = progress.images_per_s
    if (seen := state.running.tally.told(accepts_all=False)) is not None:
        told = {name: getattr(seen, name) for name in TOLD_IN_STEP}
        found |= {f"in_step/{name}": value for name, value in told.items() if value is not None}
    return found


def _kept_teachers(job: TrainJobs, folder: StepFolder) -> Iterator[tuple[str, bytes]]:
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

    job: TrainJobs
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
                **_numbers(progress, state),
            )
        if stopping or (not done and now - self.kept_at >= self.job.checkpoint_every_s):
            self.folder.note(CHECKPOINT, state_to_bytes(state))
            self.kept_at = time.monotonic()
