"""Sweeps that are killed, stopped, crowded and robbed of a node: every trial counts once.

What a sweep left is read by plain Optuna, with no code of ours.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.signals import StopRequest
from orchestrator.store.store import Store
from orchestrator.sweep.session import play_sweep
from tests.conftest import MakeConfig
from tests.orchestrator.clusters import cluster_of, join
from tests.orchestrator.helpers import chaos, play
from tests.orchestrator.processes import end, events, kill, ray_process, start, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]
STEPS = "recipe.training.steps.base"
GOOD, BAD = 100, (1, 2)
"""Steps of a round that learns, and of rounds that fall back below the first one."""
SETTINGS = (
    f"recipe.training.steps={{first_round: 120, base: {GOOD}}}",
    "recipe.policy={num_rounds: 2, label_last: false}",
    "placement.engine=ray",
    "placement.threads=1",
    "placement.checkpoint_every_s=0.1",
)
KEEP = {"rule": "none"}
Launch = Callable[..., subprocess.Popen]


def sweep_of(make: MakeConfig, choices: list[int], *overrides: str, **sweep: object) -> RunConfig:
    """A sweep that plays these numbers of steps in this order, the first as the default."""
    space = {STEPS: {"choices": choices}}
    whole = {"fragments": [], "sampler": "grid", "trials": len(choices), "space": space, **sweep}
    block = json.dumps(whole)
    return make(*SETTINGS, f"{STEPS}={choices[0]}", f"sweep={block}", *overrides)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts `selftrain sweep` on a config; whatever still runs at the end is killed."""
    started: list[subprocess.Popen] = []

    def begin(config: RunConfig, *arguments: str) -> subprocess.Popen:
        started.append(start(config, tmp_path, *arguments, command="sweep"))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            kill(process)


@pytest.fixture(scope="module")
def two_cpus() -> Iterator:
    """A cluster with two CPUs and no dashboard, for all tests that harm only what they started."""
    with cluster_of(2) as built:
        yield built


def at(cluster) -> str:
    return f"placement.ray_address={cluster.address}"


def plain_trials(config: RunConfig) -> list[FrozenTrial]:
    """All trials of the only study, as Optuna alone reads them."""
    (journal,) = config.runs.glob("*/study.journal")
    storage = JournalStorage(JournalFileBackend(str(journal)))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def counted_once(config: RunConfig, choices: list[int], *states: TrialState) -> None:
    """The study holds each of these choices once, in order, in these states."""
    trials = plain_trials(config)
    assert [t.number for t in trials] == list(range(len(choices)))
    assert [t.params[STEPS] for t in trials] == choices
    assert [t.state for t in trials] == list(states)
    done = [e for e in events(config) if e["event"] == "trial_ended"]
    assert sorted(e["trial"] for e in done) == list(range(len(choices)))


def killed_in_mid_write(config: RunConfig) -> None:
    """Leave the journal as a driver that dies while it writes: locked, with half a line."""
    (journal,) = config.runs.glob("*/study.journal")
    with contextlib.suppress(FileExistsError):
        Path(f"{journal}.lock").symlink_to(journal)
    with journal.open("a") as file:
        file.write('{"op_code":')


def seen(config: RunConfig, name: str, **fields: object) -> bool:
    """Whether the sweep's log holds such an event."""
    return any(e["event"] == name and fields.items() <= e.items() for e in events(config))


def in_mid_training(config: RunConfig) -> bool:
    """Whether a training step has left a checkpoint that nobody has finished yet."""
    return any(Path(config.store).glob("work/train-*/checkpoint.safetensors"))


COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def two_workers_end_early(make: MakeConfig, launch: Launch, cluster) -> None:
    """Trials of two workers each on two CPUs: two end early, and each leaves its CPUs."""
    choices = [GOOD, *BAD]
    config = sweep_of(
        make,
        choices,
        at(cluster),
        "placement.train_workers=2",
        "recipe.policy.num_rounds=3",
        pruning={"startup_trials": 1},
    )
    play(config.model_copy(update={"placement": make().placement}))  # trial 0 is in the store
    process = launch(config)
    output = end(process)
    assert process.returncode == 0, output
    counted_once(config, choices, COMPLETE, PRUNED, PRUNED)


@pytest.mark.chaos
def test_trials_of_two_workers_that_end_early_leave_both_cpus(make_config, launch, two_cpus):
    two_workers_end_early(make_config, launch, two_cpus)


@pytest.mark.chaos
def test_trials_of_two_workers_that_end_early_do_so_with_a_dashboard_too(make_config, launch):
    with cluster_of(2, dashboard=True) as cluster:
        two_workers_end_early(make_config, launch, cluster)


@pytest.mark.parametrize("engine", ["local", chaos("ray")])
def test_a_killed_sweep_goes_on_with_the_same_trials(make_config, launch, engine, tmp_path):
    choices = [GOOD, 90, 80]
    one = f"placement.engine={engine}"
    config = sweep_of(make_config, choices, one, concurrent=1, pruning=KEEP)
    moments: list[Callable[[], bool]] = [
        lambda: in_mid_training(config),
        lambda: seen(config, "trial_ended", trial=0),
    ]
    if engine == "local":
        moments.append(lambda: seen(config, "trial_round", trial=1, round=0))
    for moment in moments:
        process = launch(config)
        assert wait_until(moment, process)
        assert process.poll() is None
        kill(process)
    killed_in_mid_write(config)
    process = launch(config)
    output = end(process)
    assert process.returncode == 0, output
    counted_once(config, choices, COMPLETE, COMPLETE, COMPLETE)
    other = f"store={tmp_path}/s2", f"runs={tmp_path}/r2"
    whole = sweep_of(make_config, choices, "placement.engine=local", *other, pruning=KEEP)
    play_sweep(whole, Console(quiet=True), StopRequest())
    assert [t.values for t in plain_trials(config)] == [t.values for t in plain_trials(whole)]


@pytest.mark.parametrize("workers", [0, chaos(2)])
def test_a_trial_whose_process_is_killed_is_played_again_and_counts_once(
    make_config, two_cpus, launch, workers
):
    choices = [GOOD, 90]
    config = sweep_of(
        make_config,
        choices,
        at(two_cpus),
        f"placement.train_workers={workers}",
        "recipe.policy={num_rounds: 1, label_last: false}",
        concurrent=1,
        pruning=KEEP,
    )
    process = launch(config)
    assert wait_until(lambda: in_mid_training(config), process)
    trial = ray_process(os.getpid(), "ray::ResourceTrainable")
    assert trial is not None
    trial.kill()
    output = end(process)
    assert process.returncode == 0, output
    assert "trial 0  its process was lost; another one goes on" in output
    counted_once(config, choices, COMPLETE, COMPLETE)
    first = next(e for e in events(config) if e["event"] == "trial_step" and e["step"] == "train")
    counts = Store(config.store).record("train", first["address"]).counts
    assert 0 < counts["steps_this_attempt"] < counts["steps"]


@pytest.mark.chaos
def test_a_lost_node_loses_and_repeats_no_trial(make_config, launch):
    choices = [GOOD, 90, 80, 70]
    with cluster_of(1) as cluster:
        node = join(cluster, num_cpus=1)
        config = sweep_of(make_config, choices, at(cluster), concurrent=2, pruning=KEEP)
        process = launch(config)
        assert wait_until(
            lambda: all(seen(config, "trial_round", trial=n, round=0) for n in (0, 1)), process
        )
        cluster.remove_node(node, allow_graceful=False)
        output = end(process)
    assert process.returncode == 0, output
    counted_once(config, choices, *[COMPLETE] * 4)
    told = [(e["trial"], e["round"]) for e in events(config) if e["event"] == "trial_round"]
    assert len(told) > len(set(told))  # the trial that ran there played its rounds again


@pytest.mark.parametrize("engine", ["local", chaos("ray")])
def test_one_signal_stops_a_sweep_with_exit_code_75_and_it_goes_on(
    make_config, launch, engine, two_cpus
):
    choices = [GOOD, 90]
    where = at(two_cpus) if engine == "ray" else "placement.engine=local"
    config = sweep_of(make_config, choices, where, concurrent=1, pruning=KEEP)
    process = launch(config)
    assert wait_until(lambda: in_mid_training(config), process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 75, output
    assert "the same command goes on from here" in output
    process = launch(config)
    output = end(process)
    assert process.returncode == 0, output
    counted_once(config, choices, COMPLETE, COMPLETE)


def test_a_sweep_that_never_fits_is_refused_within_seconds(make_config, two_cpus, launch):
    config = sweep_of(make_config, [GOOD, 90], at(two_cpus), "placement.train_workers=50")
    process = launch(config)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 3, output
    assert "50 CPUs, the cluster has 2" in output
    config = sweep_of(make_config, [GOOD, 90], at(two_cpus), concurrent=64)
    process = launch(config)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 3, output
    assert "64 trials at a time need 64 CPUs, the cluster has 2" in output


def test_a_sweep_stops_by_itself_when_its_time_is_over_and_goes_on(make_config, launch):
    choices = [GOOD, 90]
    config = sweep_of(make_config, choices, "placement.engine=local", pruning=KEEP)
    process = launch(config, "--for", "1s")
    output = end(process)
    assert process.returncode == 0, output
    assert any(t.state in (TrialState.RUNNING, TrialState.WAITING) for t in plain_trials(config))
    process = launch(config)
    output = end(process)
    assert process.returncode == 0, output
    counted_once(config, choices, COMPLETE, COMPLETE)
