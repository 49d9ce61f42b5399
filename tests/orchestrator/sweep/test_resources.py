"""What a trial needs and how many have room, by hand."""

import pytest

from orchestrator.config import Placement
from orchestrator.errors import InfeasibleError
from orchestrator.ray_session import Cluster
from orchestrator.sweep.resources import Need, need_of, room_for, trial_placement


def cluster(cpus: float, gpus: float = 0, nodes: int = 1) -> Cluster:
    return Cluster(cpus, gpus, nodes, largest_node_cpus=cpus / nodes)


def need(cpus: float = 8, gpus: float = 0, **placement) -> Need:
    return need_of(trial_placement(Placement(**placement)), cluster(cpus, gpus))


# ---- the placement of a trial


def test_a_trial_that_trains_in_its_process_labels_there_too():
    found = trial_placement(Placement())
    assert (found.engine, found.train_workers, found.label_actors) == ("local", 0, 0)


def test_a_trial_with_workers_labels_with_two_actors_unless_told():
    found = trial_placement(Placement(train_workers=2))
    assert (found.engine, found.label_actors) == ("ray", 2)
    assert trial_placement(Placement(train_workers=2, label_actors=5)).label_actors == 5
    assert trial_placement(Placement(train_workers=2, label_actors=0)).label_actors == 0


def test_a_trial_with_actors_alone_keeps_its_engine():
    found = trial_placement(Placement(label_actors=3))
    assert (found.engine, found.label_actors, found.train_workers) == ("ray", 3, 0)


def test_a_local_sweep_stays_local_and_nothing_else_changes():
    placement = Placement(engine="local", threads=2, retries=7)
    found = trial_placement(placement)
    assert found == placement.model_copy(update={"label_actors": 0})


# ---- what a trial needs


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        # in its own process alone
        ({}, Need(1, 0, 1, 0)),
        ({"cpus_per_worker": 4}, Need(4, 0, 4, 0)),
        # training apart, labelling apart: they never work at the same time
        ({"train_workers": 2}, Need(0, 0, 2, 0)),
        ({"train_workers": 2, "label_actors": 3}, Need(0, 0, 3, 0)),
        ({"train_workers": 4, "label_actors": 1, "cpus_per_worker": 2}, Need(0, 0, 8, 0)),
        # one of them in the own process, which keeps its share while the other works apart
        ({"train_workers": 2, "label_actors": 0}, Need(1, 0, 3, 0)),
        ({"label_actors": 3}, Need(1, 0, 4, 0)),
    ],
)
def test_the_need_of_a_placement_without_gpus(placement, expected):
    assert need(**placement) == expected


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ({}, Need(1, 1, 1, 1)),
        ({"gpus_per_worker": 0.25}, Need(1, 0.25, 1, 0.25)),
        ({"train_workers": 2, "gpus_per_worker": 0.5}, Need(0, 0, 2, 1.0)),
        ({"label_actors": 1, "gpus_per_worker": 0.5}, Need(1, 0.5, 2, 1.0)),
        ({"use_gpu": False}, Need(1, 0, 1, 0)),
    ],
)
def test_the_need_of_a_placement_where_there_are_gpus(placement, expected):
    assert need(gpus=2, **placement) == expected


# ---- how many have room


def test_as_many_trials_run_as_the_scarcer_resource_allows():
    assert room_for(Need(1, 0, 1, 0), cluster(8), None) == 8
    assert room_for(Need(0, 0, 3, 0), cluster(8), None) == 2
    assert room_for(Need(1, 0.25, 1, 0.25), cluster(8, 1), None) == 4
    assert room_for(Need(1, 0.25, 1, 0.25), cluster(2, 1), None) == 2
    assert room_for(Need(1, 0, 1, 0), cluster(8, gpus=1), None) == 8


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 1 / 3])
def test_shares_of_a_gpu_add_up_to_whole_ones(share):
    assert room_for(Need(1, share, 1, share), cluster(64, 1), None) == round(1 / share - 0.2)


def test_fewer_trials_may_be_asked_for_but_not_more():
    assert room_for(Need(1, 0, 1, 0), cluster(8), 3) == 3
    with pytest.raises(InfeasibleError, match=r"9 trials at a time need 9 CPUs.*has 8: lower swee"):
        room_for(Need(1, 0, 1, 0), cluster(8), 9)


def test_a_trial_that_never_fits_says_what_is_missing_and_what_to_lower():
    with pytest.raises(InfeasibleError) as caught:
        room_for(Need(0, 0, 8, 4), cluster(4, 1), None)
    assert str(caught.value) == (
        "1 trial needs 8 CPUs, the cluster has 4 and 4 GPUs, the cluster has 1: lower "
        "sweep.concurrent, placement.train_workers, label_actors, cpus_per_worker or "
        "gpus_per_worker"
    )
    assert caught.value.exit_code == 3


def test_a_process_must_fit_on_one_node():
    with pytest.raises(InfeasibleError, match=r"3 CPUs of one node, the largest node has 2: lower"):
        room_for(Need(3, 0, 3, 0), cluster(8, nodes=4), None)
