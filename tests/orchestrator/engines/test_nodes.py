"""Lost nodes: two raylets on this machine, one killed or drained in the middle of a step."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import prepare
from orchestrator.engines.leaving import Group, size_of_group
from orchestrator.errors import Interrupted, LostWorkError
from orchestrator.notices import NodeNotice
from orchestrator.ray_session import (
    import_ray,
    leaving_nodes,
    own_node,
    own_node_leaves,
    room_on_staying_nodes,
)
from orchestrator.runs import RunRecord
from orchestrator.session import play_run
from orchestrator.signals import StopRequest
from orchestrator.store.store import Store
from orchestrator.sweep.session import play_sweep
from tests.orchestrator.clusters import cluster_of, join
from tests.orchestrator.helpers import addresses, play, table_of
from tests.orchestrator.processes import events, processes_of
from tests.orchestrator.seconds import longest_silence, tell_lost

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]
PATIENCE_S = 240
DRAIN_S = 120
"""Most seconds from the notice of a drain to the end of a run."""


@pytest.fixture
def cluster() -> Iterator:
    """A head with one CPU; tests let nodes join."""
    with cluster_of(1) as built:
        yield built


def play_and(
    config: RunConfig,
    when: Callable[[], bool],
    then: Callable[[], None],
    patience_s: float = PATIENCE_S,
    play: Callable[[RunConfig], Any] = play,
) -> Any:
    """Play, and do something to the cluster as soon as `when` comes true."""
    done: list[Any] = []
    deadline = time.monotonic() + PATIENCE_S

    def target() -> None:
        try:
            done.append(play(config))
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            done.append(error)

    runner = threading.Thread(target=target)
    runner.start()
    try:
        while not when():
            assert runner.is_alive(), done
            assert time.monotonic() < deadline
            time.sleep(0.02)  # how often the store is looked at
        then()
    finally:  # a cluster that goes while something plays on it ends this process, and says nothing
        runner.join(patience_s)
    assert not runner.is_alive()
    (outcome,) = done
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def play_and_lose(config: RunConfig, cluster, node, when: str) -> RunRecord:
    """Play, and kill the node as soon as the store holds what `when` names."""
    return play_and(
        config,
        lambda: any(Path(config.store).glob(when)),
        lambda: cluster.remove_node(node, allow_graceful=False),
    )


def drain(cluster, node_id: str, grace_s: float) -> None:
    """Tell a node that it will be taken away, as clouds tell spot instances."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    accepted, why = GcsClient(address=cluster.address).drain_node(
        node_id,
        autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "a test",
        int((time.time() + grace_s) * 1000),
    )
    assert accepted, why


def trains(config: RunConfig) -> bool:
    """Whether a training has told its progress."""
    return any(event["event"] == "progress" for event in events(config))


def two_workers(make_config, cluster, steps: int, *more: str) -> RunConfig:
    """One training of two workers that keeps no checkpoint unless it is told to end."""
    return make_config(
        f"recipe.training.steps.first_round={steps}",
        "recipe.policy={num_rounds: 1, label_last: false}",
        "placement.engine=ray",
        f"placement.ray_address={cluster.address}",
        "placement.train_workers=2",
        "placement.checkpoint_every_s=1000",
        *more,
    )


def test_a_node_lost_while_labelling_loses_and_repeats_no_row(make_config, cluster, tmp_path):
    node = join(cluster, num_cpus=1)
    settings = ("placement.label_rows_per_pass=1", "recipe.policy.num_rounds=1")
    whole = play(make_config(*settings, f"store={tmp_path}/whole"))
    config = make_config(
        *settings, "placement.engine=ray", f"placement.ray_address={cluster.address}"
    )
    record = play_and_lose(config, cluster, node, "work/label-*/part-*.json")
    assert addresses(record) == addresses(whole)
    label = record.rounds[0].steps["label"].address
    found = table_of(config.store, "label", label)
    assert found["example_id"].to_pylist() == sorted(set(found["example_id"].to_pylist()))
    assert found.num_rows == 1047
    tell_lost("node lost while labelling", longest_silence(events(config)))


def test_training_goes_on_with_fewer_workers_when_a_node_is_lost(make_config, cluster):
    node = join(cluster, num_cpus=1)
    config = make_config(
        "recipe.training.steps.first_round=400",
        "recipe.policy={num_rounds: 1, label_last: false}",
        "placement.engine=ray",
        f"placement.ray_address={cluster.address}",
        "placement.train_workers=2",
        "placement.least_train_workers=1",
        "placement.checkpoint_every_s=0.1",
    )
    record = play_and_lose(config, cluster, node, "work/train-*/checkpoint.safetensors")
    trained = Store(config.store).record("train", record.rounds[0].steps["train"].address)
    assert trained.counts["steps"] == 400
    assert 0 < trained.counts["steps_this_attempt"] < 400
    assert trained.metrics["workers"] == 1
    tell_lost("node lost while training", longest_silence(events(config)))


def test_a_drained_node_makes_training_keep_a_checkpoint_and_go_on_with_fewer_workers(
    make_config, cluster
):
    node = join(cluster, num_cpus=1)
    config = two_workers(make_config, cluster, 1000, "placement.least_train_workers=1")
    record = play_and(
        config, lambda: trains(config), lambda: drain(cluster, node.node_id, grace_s=90), DRAIN_S
    )
    trained = Store(config.store).record("train", record.rounds[0].steps["train"].address)
    assert trained.counts["steps"] == 1000
    assert 0 < trained.counts["steps_this_attempt"] < 1000  # from the checkpoint of the notice
    assert trained.metrics["workers"] == 1
    tell_lost("node drained while training", longest_silence(events(config)))


@pytest.mark.parametrize("leaves", ["lost", "drained"])
def test_training_grows_back_to_all_workers_when_another_node_comes(make_config, cluster, leaves):
    node, stop = join(cluster, num_cpus=1), StopRequest()
    config = two_workers(
        make_config,
        cluster,
        100_000,
        "placement.least_train_workers=1",
        "placement.checkpoint_every_s=1",
    )

    def told() -> int:
        return sum(event["event"] == "progress" for event in events(config))

    def works_with(workers: int) -> None:
        """Wait until so many workers train, and one of them has told so."""
        there = lambda: len(processes_of(os.getpid(), "RayTrainWorker")) == workers  # noqa: E731 - asked again
        assert soon(there, PATIENCE_S)
        before = told()
        assert soon(lambda: told() > before, PATIENCE_S)

    def take_and_bring_back() -> None:
        works_with(2)
        if leaves == "lost":
            cluster.remove_node(node, allow_graceful=False)
        else:
            drain(cluster, node.node_id, grace_s=90)
        works_with(1)
        join(cluster, num_cpus=1)
        came = time.monotonic()
        works_with(2)
        tell_lost(f"growing after a node was {leaves}", time.monotonic() - came)

    def watch() -> None:
        try:
            take_and_bring_back()
        finally:
            stop.ask("the test has seen enough")

    with pytest.raises(Interrupted, match="checkpoint kept"):
        play_and(
            config,
            lambda: trains(config),
            watch,
            play=lambda config: play_run(config, Console(quiet=True), stop),
        )
    steps = [e["step_in_round"] for e in events(config) if e["event"] == "progress"]
    back = sum(after < before for before, after in pairwise(steps))
    assert back <= 2  # each group went on from a checkpoint, none began anew
    assert min(steps[1:]) > 0


def test_a_node_lost_while_selecting_loses_and_repeats_no_row(make_config, cluster, tmp_path):
    node = join(cluster, num_cpus=1)
    data = tmp_path / "resharded"  # into 70 fragments, which are selected from in Ray's tasks
    spec = PrepareSpec(labelled_per_class=10, validation=200, test=450, fragment_rows=15)
    prepare("digits", data, spec)
    settings = ("recipe.policy.num_rounds=1", "placement.label_actors=0")
    whole = play(make_config(*settings, f"store={tmp_path}/whole", data=data))
    config = make_config(
        *settings, "placement.engine=ray", f"placement.ray_address={cluster.address}", data=data
    )
    record = play_and(
        config,
        lambda: any(e["event"] == "step_started" and e["kind"] == "select" for e in events(config)),
        lambda: cluster.remove_node(node, allow_graceful=False),
    )
    assert addresses(record) == addresses(whole)
    select = record.rounds[0].steps["select"].address
    assert table_of(config.store, "select", select).equals(
        table_of(tmp_path / "whole", "select", select)
    )
    tell_lost("node lost while selecting", longest_silence(events(config)))


def test_without_room_for_all_workers_a_drained_node_ends_the_run_resumably(make_config, cluster):
    node = join(cluster, num_cpus=1)
    config = two_workers(make_config, cluster, 1000)
    with pytest.raises(LostWorkError, match="room for 1 training workers, 2 are needed") as ended:
        play_and(
            config,
            lambda: trains(config),
            lambda: drain(cluster, node.node_id, grace_s=90),
            DRAIN_S,
        )
    assert ended.value.exit_code == 75
    assert any(Path(config.store).glob("work/train-*/checkpoint.safetensors"))


def test_a_trial_on_a_drained_node_keeps_a_checkpoint_and_goes_on_on_another(make_config, cluster):
    node = join(cluster, num_cpus=1)
    config = make_config(
        "sweep={fragments: [], sampler: grid, pruning: {rule: none}, space: "
        "{recipe.training.optimiser.learning_rate: {choices: [0.1, 0.05]}}}",
        "recipe.training.steps.first_round=1000",
        "recipe.policy={num_rounds: 1, label_last: false}",
        "placement.engine=ray",
        f"placement.ray_address={cluster.address}",
        "placement.threads=1",
        "placement.checkpoint_every_s=1000",
    )
    record, _ = play_and(
        config,
        lambda: len(list(Path(config.store).glob("leases/train-*.json"))) == 2,
        lambda: drain(cluster, node.node_id, grace_s=90),
        play=lambda config: play_sweep(config, Console(quiet=True), StopRequest()),
    )
    assert [place.state for place in record.places] == ["complete", "complete"]
    trained = [e["counts"] for e in events(config) if e.get("kind") == "train"]
    assert [counts["steps"] for counts in trained] == [1000, 1000]
    whole, resumed = sorted((c["steps_this_attempt"] for c in trained), reverse=True)
    assert whole == 1000
    assert 0 < resumed < 1000


def test_a_smaller_group_grows_when_a_node_comes_and_never_onto_one_that_leaves(cluster):
    ray = import_ray()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    head = own_node()
    group = Group({"CPU": 2.0}, size=1, wanted=2, grow_after_s=0.0)
    group.placed(head)
    assert not group.should_end()
    assert size_of_group({"CPU": 1.0}, wanted=2, least=1) == 1
    node = join(cluster, num_cpus=2)
    assert room_on_staying_nodes({"CPU": 1.0}, free=False) == 3
    assert soon(group.should_end)
    assert group.why == "there is room for more than 1 workers"
    busy = occupy(node.node_id)
    drain(cluster, node.node_id, grace_s=60)
    assert soon(lambda: leaving_nodes() == {node.node_id})
    assert room_on_staying_nodes({"CPU": 2.0}, free=False) == 0
    lost = Group({"CPU": 2.0}, size=1, wanted=2, grow_after_s=0.0)
    lost.placed(node.node_id)
    assert soon(lost.should_end)
    assert lost.why == f"node {node.node_id[:12]} is about to leave the cluster"
    with pytest.raises(LostWorkError, match="room for 1 training workers, 2 are needed; .*least"):
        size_of_group({"CPU": 1.0}, wanted=2, least=None)
    assert busy


@pytest.mark.parametrize("works", [True, False], ids=["busy", "idle"])
def test_a_run_on_a_node_that_is_drained_is_asked_to_stop(cluster, capsys, works):
    ray = import_ray()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    stop, busy = StopRequest(), occupy(own_node()) if works else None
    with NodeNotice(stop):
        assert not own_node_leaves()
        drain(cluster, own_node(), grace_s=60)
        assert soon(stop.asked)
    assert bool(busy) == works
    assert "this node is about to leave the Ray cluster" in capsys.readouterr().err


class Busy:
    """Work that keeps a node from leaving at once when it is drained, as training does."""

    def node(self) -> str:
        return own_node()


def occupy(node_id: str) -> object:
    """An actor that reserves a CPU of the node; it lives as long as what is returned."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    actor = ray.remote(num_cpus=1, scheduling_strategy=there)(Busy).remote()
    assert ray.get(actor.node.remote(), timeout=60) == node_id
    return actor


def soon(true: Callable[[], bool], patience_s: float = 30) -> bool:
    """Whether it comes true within a while; nothing waits for a fixed time."""
    deadline = time.monotonic() + patience_s
    while not (came := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return came
