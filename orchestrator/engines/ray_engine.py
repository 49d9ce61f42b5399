"""The ray engine: training on Ray Train, labelling on Ray Data, selecting in Ray tasks.

Every piece of work writes its own files to the store and returns a small report, so that a lost
actor or worker costs its piece only, and no row passes through Ray's object store.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from orchestrator import errors, ray_session
from orchestrator.config import Placement
from orchestrator.engines.base import Result
from orchestrator.engines.board import BoardWatch, News, Relay, close_board, open_board
from orchestrator.engines.leaving import Group, size_of_group
from orchestrator.engines.local_engine import LocalEngine, local_device
from orchestrator.errors import Interrupted, LostWorkError, SelftrainError
from orchestrator.jobs.job import ANY_LABEL_JOB, ANY_TRAIN_JOB, LabelJobs, TrainJobs
from orchestrator.jobs.labellers import AnyLabeller, labeller_of
from orchestrator.jobs.labelling import ShardReport
from orchestrator.jobs.training import run_training
from orchestrator.preflight import check_nodes
from orchestrator.store.files import Files, below
from orchestrator.store.record import FileEntry
from orchestrator.store.store import Outcome
from orchestrator.tracking.process_log import Carried, carried, joined, span
from orchestrator.watch import Watch
from trainables.worker import Worker

POLL_S = 0.2
NO_PROGRESS_S = 300
LABEL_ACTORS = 2
FEW_FRAGMENTS = 64
"""The driver reads so few shards itself: a task's process takes seconds to import torch."""


class RayEngine:
    """Plays steps on a Ray cluster; starts one on this machine if there is none."""

    name = "ray"

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._cluster: ray_session.Cluster | None = None
        self._tried: set[str] = set()

    def train(self, job: TrainJobs, watch: Watch) -> Outcome:
        if self._placement.train_workers == 0:
            return self._train_here(job, watch)
        return self._train_apart(job, watch)

    def label(
        self, job: LabelJobs, fragments: Sequence[int], watch: Watch
    ) -> Iterator[ShardReport]:
        wanted = LABEL_ACTORS if (set_ := self._placement.label_actors) is None else set_
        if wanted == 0:
            yield from LocalEngine(self._placement).label(job, fragments, watch)
            return
        cluster = self._connected(job.store)
        import ray.data

        ray_session.quieten()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.verbose_progress = False
        context.execution_no_progress_timeout_s = NO_PROGRESS_S
        gpus = self._gpus(cluster)
        fit_in = cluster.gpus // gpus if gpus else cluster.cpus // self._placement.cpus_per_worker
        actors = max(1, min(wanted, int(fit_in), len(fragments)))
        if actors < min(wanted, len(fragments)):
            watch.say(f"labelling with {actors} actors: the cluster has room for no more")
        rows = ray.data.from_items(
            [{"fragment": i} for i in fragments], override_num_blocks=len(fragments)
        ).map(
            _LabelActor,
            fn_constructor_args=(job.model_dump_json(), bool(gpus), carried()),
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=self._placement.cpus_per_worker,
            num_gpus=gpus,
        )
        for row in _rows_of(rows):
            _raise_if_told(row)
            yield ShardReport.model_validate_json(row["report"])
            if watch.stopping():
                raise Interrupted("labelling stopped between two fragments; finished ones stay")

    def over(
        self, function: Callable[[Sequence[int]], Result], fragments: Sequence[int], watch: Watch
    ) -> list[Result]:
        if len(fragments) <= FEW_FRAGMENTS:
            return [function(fragments)]
        cluster = self._connected()
        import ray

        groups = min(len(fragments), 4 * max(1, int(cluster.cpus)))
        task = ray.remote(num_cpus=self._placement.cpus_per_worker)(_call)
        refs = [task.remote(function, list(fragments[i::groups])) for i in range(groups)]
        rest = refs
        while rest:
            _, rest = ray.wait(rest, num_returns=len(rest), timeout=POLL_S)
            if rest and watch.stopping():
                raise Interrupted("stopped while shards were read; the step starts over")
        results: list[Result] = ray.get(refs)
        return results

    def device(self) -> str:
        """The device of scoring, which the driver does: its GPU if it has one, else the CPU."""
        return "cuda:0" if torch.cuda.is_available() and self._placement.use_gpu else "cpu"

    def close(self) -> None:
        if self._cluster is not None:
            ray_session.disconnect(self._cluster)
            self._cluster = None

    def _connected(self, store: str | None = None) -> ray_session.Cluster:
        """The cluster; every node has tried the store before the first work that it gets."""
        if self._cluster is None:
            self._cluster = ray_session.connect(self._placement)
            ray_session.check_feasible(self._placement, self._cluster)
        if store is not None and store not in self._tried:
            check_nodes(store)
            self._tried.add(store)
        return self._cluster

    def _gpus(self, cluster: ray_session.Cluster) -> float:
        """GPUs of one worker or actor."""
        wanted = cluster.gpus > 0 and self._placement.use_gpu is not False
        return self._placement.gpus_per_worker if wanted else 0.0

    def _train_here(self, job: TrainJobs, watch: Watch) -> Outcome:
        """Ray Train's local mode: the same training function in this process."""
        ray_session.import_ray()
        from ray.train import ScalingConfig
        from ray.train.torch import TorchTrainer

        ray_session.quieten()
        done: list[Outcome | BaseException] = []

        def loop() -> None:
            device = torch.device(local_device(self._placement))
            worker = Worker(device=device, rows_per_pass=job.rows_per_pass)
            try:
                outcome = run_training(job, worker, watch)
            except SelftrainError as error:  # passed around Ray, which would wrap it
                done.append(error)
            else:
                done.append(outcome) if outcome else None

        TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=0)).fit()
        if isinstance(done[0], BaseException):
            raise done[0]
        return done[0]

    def _train_apart(self, job: TrainJobs, watch: Watch) -> Outcome:
        """Groups of workers, one after the other: each goes on from the newest checkpoint.

        Lost workers are replaced within a group. A group whose nodes are about to leave ends at a
        checkpoint; the next one has as many workers as fit, and grows again when it can.
        """
        gpus = self._gpus(self._connected(job.store))
        need = {"CPU": self._placement.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
        wanted, least = self._placement.train_workers, self._placement.least_train_workers
        changed = bool(ray_session.leaving_nodes())
        while True:
            size = size_of_group(need, wanted, least) if changed else wanted
            group = Group(need, size, wanted)
            value = self._fit(job, watch, group, need)
            ended = value.get("error") == Interrupted.__name__
            if not (ended and group.why) or watch.stopping():
                break
            changed = True
            watch.say(f"{group.why}: a checkpoint is kept, training goes on with other workers")
        _raise_if_told(value)
        files = tuple(FileEntry.model_validate(entry) for entry in value["files"])
        return Outcome(files, value["counts"], value["metrics"])

    def _fit(
        self, job: TrainJobs, watch: Watch, group: Group, need: dict[str, float]
    ) -> dict[str, Any]:
        """Train with one group; what its first worker returned."""
        from ray.train import (
            FailureConfig,
            LoggingConfig,
            RunConfig,
            ScalingConfig,
            TrainingFailedError,
        )
        from ray.train.torch import TorchTrainer

        ray_session.quieten()
        board = open_board()
        least = self._placement.least_train_workers
        name = f"{job.address[:12]}-{uuid.uuid4().hex[:6]}"
        trainer = TorchTrainer(
            partial(_train_loop, board=board),
            train_loop_config={"job": job.model_dump_json(), "log": carried()},
            scaling_config=ScalingConfig(
                num_workers=(least, group.size) if least and least < group.size else group.size,
                use_gpu="GPU" in need,
                resources_per_worker=need,
            ),
            run_config=RunConfig(
                name=name,
                storage_path=below(job.store, "ray-train"),
                failure_config=FailureConfig(
                    max_failures=self._placement.retries,
                    # groups that could not start, while a lost node still counts as there
                    controller_failure_limit=2 + self._placement.retries,
                ),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )

        def ending() -> bool:
            return watch.stopping() or group.should_end()

        try:
            # in a thread of its own: in the main thread Ray would take over Ctrl-C
            relay = Relay(board, partial(_pass_on, watch, group), ending)
            with relay, ThreadPoolExecutor(1) as pool:
                result = pool.submit(trainer.fit).result()
        except TrainingFailedError as error:
            raise _explain(error) from error
        finally:
            close_board(board)
            Files(job.store).delete_folder(f"ray-train/{name}")
        value: dict[str, Any] = result.return_value
        return value


def _call(function: Callable[[Sequence[int]], Result], fragments: Sequence[int]) -> Result:
    return function(fragments)


class _LabelActor:
    """One actor of the labelling pool: holds the teacher, labels whole fragments."""

    def __init__(self, job: str, use_gpu: bool, log: Carried) -> None:  # noqa: FBT001 - Ray's
        self._log = log
        self._job, self._device = ANY_LABEL_JOB.validate_json(job), "cuda:0" if use_gpu else "cpu"
        self._labeller: AnyLabeller | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        told = {"report": "", "error": "", "message": ""}
        try:
            with joined(self._log), span("work", work="label", fragment=int(row["fragment"])):
                self._labeller = self._labeller or labeller_of(self._job, self._device)
                report = self._labeller.label(int(row["fragment"]))
        except SelftrainError as error:  # returned: Ray would wrap it
            return told | {"error": type(error).__name__, "message": str(error)}
        return told | {"report": report.model_dump_json()}


def _rows_of(rows: Any) -> Iterator[dict[str, Any]]:
    """The rows of a Ray Data pipeline; its failures become errors of ours.

    Raises:
        LostWorkError: The pipeline failed or stood still.
    """
    import ray

    try:
        yield from rows.iter_rows()
    except ray.exceptions.RayError as error:
        last = (str(error).strip().splitlines() or [repr(error)])[-1]
        raise LostWorkError(
            f"labelling failed: {last}; logs in {ray_session.log_folder()}; start the same "
            "command again: finished fragments are kept"
        ) from error


def _raise_if_told(told: dict[str, Any]) -> None:
    """Raise the error that a worker returned, as its own class."""
    if name := told.get("error"):
        raise getattr(errors, name)(told["message"])


def _pass_on(watch: Watch, group: Group, news: News) -> None:
    _, name, fields = news
    if name == "placed":
        group.placed(fields["node"])
    elif name == "progress":
        watch.progress(**fields)
    elif name == "say":
        watch.say(fields["text"])


def _train_loop(config: dict[str, Any], *, board: Any) -> dict[str, Any] | None:
    """What each training worker runs."""
    from ray.train import get_context
    from ray.train.torch import get_device

    job = ANY_TRAIN_JOB.validate_json(config["job"])
    context = get_context()
    worker = Worker(
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        device=get_device(),
        rows_per_pass=job.rows_per_pass,
    )
    watch = BoardWatch(board)
    watch.emit("placed", node=ray_session.own_node())
    try:
        with joined(config["log"]), span("work", work="train", rank=worker.rank):
            outcome = run_training(job, worker, watch)
    except LostWorkError:
        raise  # worth another try
    except SelftrainError as error:  # returned: Ray would try again what can't be mended by trying
        return {"error": type(error).__name__, "message": str(error)}
    if outcome is None:
        return None
    return {
        "files": [entry.plain() for entry in outcome.files],
        "counts": dict(outcome.counts),
        "metrics": dict(outcome.metrics) | {"workers": worker.world},
    }


def _explain(error: Any) -> SelftrainError:
    """One message from a failed fit: our own error if a worker raised one, else the last line."""
    failures = getattr(error, "worker_failures", {}) or {}
    for rank, cause in sorted(failures.items()):
        inner = getattr(cause, "cause", None) or cause
        if isinstance(inner, SelftrainError):
            return inner
        lines = str(cause).strip().splitlines() or [repr(cause)]
        last = next((line for line in lines if "health check" in line), lines[-1])
        return LostWorkError(
            f"training worker {rank} failed: {last}; logs in {ray_session.log_folder()}/train; "
            "start the same command again to go on from the newest checkpoint"
        )
    last = (str(error).strip().splitlines() or [repr(error)])[-1]
    return LostWorkError(
        f"training failed: {last}; logs in {ray_session.log_folder()}/train; "
        "start the same command again to go on from the newest checkpoint"
    )
