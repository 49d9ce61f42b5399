"""Before work starts every node tries the store, and a node that can't use it is named."""

import uuid
from collections.abc import Iterator

import psutil
import pytest

from orchestrator import doctor, ray_session
from orchestrator.config import Placement
from orchestrator.engines.ray_engine import RayEngine
from orchestrator.errors import InfeasibleError
from orchestrator.preflight import faults_of_nodes
from tests.orchestrator.clusters import cluster_of, join
from tests.orchestrator.s3 import environment

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]


@pytest.fixture
def two_nodes(s3) -> Iterator[str]:
    """A store that the second of two nodes can't reach."""
    with environment({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3.port}"}), cluster_of(1) as cluster:
        lost = join(cluster, num_cpus=1, env_vars={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
        cluster.wait_for_nodes()
        with environment({"RAY_ADDRESS": cluster.address}):
            yield lost.unique_id


def test_a_node_that_can_not_reach_the_store_is_named(two_nodes, make_config, tmp_path):
    store = f"s3://bucket/{uuid.uuid4().hex}?region=us-east-1"
    examined = {f.name: f for f in doctor.examine(store, Placement(), with_ray=True)}
    found = examined["store from every node"]
    assert not found.ok
    assert examined["store"].ok
    assert found.found.startswith("not usable from node ")
    assert "NETWORK_CONNECTION" in found.found
    engine = RayEngine(Placement())
    ray_session.connect(Placement())
    assert [node["Alive"] for node in ray_session.import_ray().nodes()] == [True, True]
    try:
        with pytest.raises(InfeasibleError, match=r"can't be used from node .*can't be written"):
            engine._connected(store)
        assert len(faults_of_nodes(store)) == 1
        assert faults_of_nodes(str(tmp_path / "shared")) == {}
    finally:
        engine.close()
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_cluster_that_is_started_here_listens_on_the_loopback_interface_only(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    cluster = ray_session.connect(Placement())
    assert cluster.joined_here
    try:
        started = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
        listening = {
            (p.name(), c.laddr.ip)
            for p in started
            for c in p.net_connections(kind="inet")
            if c.status == psutil.CONN_LISTEN
        }
    finally:
        ray_session.disconnect(cluster)
    assert listening
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening
