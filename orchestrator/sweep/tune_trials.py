"""Trials on Ray Tune: a class Trainable whose step is one round, so that nothing ends in mid-round.

Tune runs and replaces the trials' processes; the conductor proposes, judges and keeps the study.
Nothing of Tune's own state is read again: a sweep goes on from its study and the store.
"""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator import ray_session
from orchestrator.config import RunConfig
from orchestrator.engines.board import BoardWatch, News, Relay, close_board, open_board
from orchestrator.errors import Interrupted, LostWorkError, SelftrainError, StorageAwayError
from orchestrator.session import make_engine
from orchestrator.store.files import Files, below
from orchestrator.sweep.conductor import Conductor
from orchestrator.sweep.resources import Need
from orchestrator.sweep.trial import TrialPlayer, TrialRound
from orchestrator.tracking.process_log import Carried, carried, joined, span

QUIET_S = 60.0
"""Seconds without news of any trial after which the driver says who waits for what."""
LOOK_EVERY_S = 2.0
"""Seconds between two looks at whether the node of a trial's process is told to leave."""
TRIAL_MEMORY = 50 * 2**20
"""Bytes that a trial's process reserves if it needs no CPU: Tune refuses to reserve nothing."""


class _TrialWatch(BoardWatch):
    """A board's watch that also stops work whose own node is about to leave the cluster."""

    leaving = False
    _looked_at = 0.0

    def stopping(self) -> bool:
        now = time.monotonic()
        if not self.leaving and now - self._looked_at > LOOK_EVERY_S:
            self._looked_at = now
            self.leaving = ray_session.own_node_leaves()
        return self.leaving or super().stopping()


class _Trial(tune.Trainable):
    """One trial at a time in a process that is used again for the next."""

    def setup(self, config: dict[str, Any], board: Any = None, log: Carried | None = None) -> None:
        self._board, self._log = board, log or {}
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._task: dict[str, Any] = config
        self._player: TrialPlayer | None = None

    def step(self) -> dict[str, Any]:
        """Play one round; faults come back as results, since trying again would not mend them."""
        with joined(self._log), span("trial", trial=self._task["number"]):
            return self._play_round()

    def _play_round(self) -> dict[str, Any]:
        watch = _TrialWatch(self._board, str(self._task["number"]))
        try:
            if self._player is None:
                configs = [RunConfig.model_validate_json(text) for text in self._task["configs"]]
                engine = make_engine(configs[0].placement)
                self._player = TrialPlayer(configs, engine, watch.emit, watch)
            return {"outcome": self._player.step().model_dump_json()}
        except LostWorkError:
            raise  # worth another try in a new process
        except Interrupted as error:
            if watch.leaving:
                raise LostWorkError(f"{error}: its node is about to leave the cluster") from error
            return {"interrupted": str(error)}
        except StorageAwayError as error:
            return {"away": str(error)}
        except SelftrainError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - a trial's fault ends the trial, not the sweep
            return {"error": f"{type(error).__name__}: {error}"}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: every step is in the store."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: every step is in the store."""


class _Unsaved:
    """Tune writes its parts to a file now and then; of these there is nothing to keep."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Asker(_Unsaved, Searcher):
    """Takes proposals from the conductor."""

    def __init__(self, conductor: Conductor, ending: Callable[[], bool]) -> None:
        super().__init__()
        self._conductor, self._ending = conductor, ending
        self._running: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        task = None if self._ending() else self._conductor.propose()
        if task is None:
            return None if self._running else Searcher.FINISHED
        self._running[trial_id] = task.number
        configs = [config.model_dump_json() for config in task.configs]
        return {"number": task.number, "configs": configs}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: FBT001, FBT002 - Tune's
        del result, error
        self._running.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is the memory."""


class _Judge(_Unsaved, FIFOScheduler):
    """Hands every result to the conductor; ends trials between rounds only."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor
        self.away = ""
        """What storage that is away or full said; the sweep ends, and its trials go on later."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        del tune_controller
        number = int(trial.config["number"])
        if "interrupted" in result:
            return str(TrialScheduler.STOP)
        if (away := result.get("away")) is not None:
            self.away = self.away or away
            return str(TrialScheduler.STOP)
        if (error := result.get("error")) is not None:
            self._conductor.failed(number, error)
            return str(TrialScheduler.STOP)
        outcome = TrialRound.model_validate_json(result["outcome"])
        goes_on = self._conductor.heard(number, outcome)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class _Errors(_Unsaved, tune.Callback):
    """Says which trials lost their process, and tells the conductor of those that Tune gave up."""

    def __init__(self, conductor: Conductor, say: Callable[[str], None]) -> None:
        self._conductor, self._say = conductor, say

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        del iteration, trials, info
        number = trial.config["number"]
        self._say(f"trial {number}  its process was lost; another one goes on from the store")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        del iteration, trials, info
        told = "it ended without a word"
        if trial.local_path and (path := Path(trial.error_file)).is_file():
            told = (path.read_text(errors="replace").strip().splitlines() or [told])[-1]
        self._conductor.failed(int(trial.config["number"]), f"the trial's process: {told}")


class _Watchdog:
    """Says who waits for what when no trial has told anything new for a while."""

    def __init__(self, conductor: Conductor, say: Callable[[str], None]) -> None:
        self._conductor, self._say = conductor, say
        self._heard_at = time.monotonic()
        self._last: dict[str, str] = {}

    def hear(self, news: News) -> None:
        who, name, fields = news
        if name == "beat":
            if time.monotonic() - self._heard_at > QUIET_S:
                self._tell()
            return
        self._heard_at = time.monotonic()
        if name == "say":
            self._last[who] = fields["text"]
            self._say(f"trial {who}  {fields['text']}")
        elif name != "progress":
            place = " ".join(str(fields[k]) for k in ("step", "round") if k in fields)
            self._last[who] = f"{name.replace('_', ' ')} {place}"
            self._conductor.tell(int(who), name, **fields)

    def look(self) -> None:
        """Speak if it has been quiet for too long."""
        if time.monotonic() - self._heard_at > QUIET_S:
            self._tell()

    def _tell(self) -> None:
        self._heard_at = time.monotonic()
        playing = self._conductor.playing()
        waits = [f"trial {n} last told: {self._last.get(str(n), 'nothing')}" for n in playing]
        free, there = ray.available_resources(), ray.cluster_resources()
        room = f"{free.get('CPU', 0):g} of {there.get('CPU', 0):g} CPUs are free"
        if there.get("GPU"):
            room += f", {free.get('GPU', 0):g} of {there['GPU']:g} GPUs"
        self._say(f"no news for {QUIET_S:g} s: {'; '.join(waits) or 'no trial is played'}; {room}")


def play_trials(  # noqa: PLR0913 - what a sweep is made of
    conductor: Conductor,
    *,
    need: Need,
    room: int,
    retries: int,
    store: str,
    name: str,
    say: Callable[[str], None],
    stopping: Callable[[], bool],
) -> None:
    """Play trials until the conductor has no more; Ray must be connected.

    Raises:
        Interrupted: Asked to stop; running trials kept their finished steps.
        StorageAwayError: A trial's storage is away or full; no trial counts as failed for that.
    """
    ray_session.quieten()
    board = open_board()
    folder = f"tune/{name}"
    judge = _Judge(conductor)

    def ending() -> bool:
        return bool(judge.away) or stopping()

    resources = {"cpu": need.own_cpus, "gpu": need.own_gpus}
    if not need.own_cpus:
        resources = {"cpu": 0, "memory": TRIAL_MEMORY}
    trainable = tune.with_resources(
        tune.with_parameters(_Trial, board=board, log=carried()), resources
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Asker(conductor, ending),
            scheduler=judge,
            num_samples=-1,
            max_concurrent_trials=room,  # also lets their processes start side by side
            reuse_actors=True,
            trial_dirname_creator=_folder_of,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=below(store, "tune"),
            failure_config=tune.FailureConfig(max_failures=retries),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            callbacks=[_Errors(conductor, say)],
            verbose=0,
        ),
    )
    watchdog = _Watchdog(conductor, say)
    reaper = _Reaper() if need.cpus > need.own_cpus else None
    try:
        with Relay(board, watchdog.hear, ending), ThreadPoolExecutor(1) as pool:
            fit = pool.submit(tuner.fit)
            while not fit.done():
                with contextlib.suppress(TimeoutError):
                    fit.result(timeout=1.0)
                watchdog.look()
                if reaper is not None:
                    reaper.reap()
            fit.result()
    finally:
        close_board(board)
        Files(store).delete_folder(folder)
    if judge.away:
        raise StorageAwayError(judge.away)
    if stopping():
        raise Interrupted("the sweep was stopped; finished steps and trials are kept")


class _Reaper:
    """Gives back what training in a trial's process reserved when that process dies.

    Ray frees a placement group with the job that made it, which for trials is the whole sweep, and
    Ray Train's own cleaner works only where the dashboard runs.
    """

    def reap(self) -> None:
        """Remove the placement groups whose maker is dead."""
        from ray._private.state import state
        from ray.core.generated import gcs_pb2
        from ray.util.placement_group import PlacementGroup

        for packed in state._connect_and_get_accessor().get_placement_group_table():
            group = gcs_pb2.PlacementGroupTableData.FromString(packed)
            made_by_actor = not ray.ActorID(group.creator_actor_id).is_nil()
            gone = group.state == gcs_pb2.PlacementGroupTableData.REMOVED
            if made_by_actor and group.creator_actor_dead and not gone:
                ray.util.remove_placement_group(
                    PlacementGroup(ray.PlacementGroupID(group.placement_group_id))
                )


def _folder_of(trial: Any) -> str:
    return f"trial-{trial.config['number']}-{trial.trial_id[:6]}"
