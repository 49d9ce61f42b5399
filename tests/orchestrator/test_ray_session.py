"""A process joins one Ray cluster and never mistakes it for another."""

import pytest

from orchestrator import ray_session
from orchestrator.config import Placement
from orchestrator.errors import InfeasibleError
from orchestrator.ray_session import check_same_cluster


@pytest.mark.ray
@pytest.mark.slow
def test_the_address_of_another_cluster_than_the_joined_one_is_refused(ray_cluster):
    joined = ray_session.import_ray().get_runtime_context().gcs_address
    with pytest.raises(InfeasibleError, match=f"192.0.2.1:6379, but .* at {joined}"):
        ray_session.connect(Placement(ray_address="192.0.2.1:6379"))
    again = ray_session.connect(Placement(ray_address=joined))
    assert not again.joined_here
    assert again.cpus == 4


@pytest.mark.parametrize("wanted", [None, "auto", "local", "10.0.0.5:6379", "ray://head:10001"])
def test_addresses_that_may_mean_the_joined_cluster_are_accepted(wanted):
    check_same_cluster(wanted, "10.0.0.5:6379")


def test_a_name_is_held_against_the_address_that_it_stands_for():
    check_same_cluster("localhost:6379", "10.0.0.5:6379")
    check_same_cluster("localhost:6379", "127.0.0.1:6379")
    with pytest.raises(InfeasibleError, match="localhost:6380"):
        check_same_cluster("localhost:6380", "10.0.0.5:6379")
