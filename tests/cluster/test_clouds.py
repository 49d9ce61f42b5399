"""Files for whoever starts a cluster: Ray's and KubeRay's validators take them, versions agree."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cluster.kube_rules import faults_of
from orchestrator.launch import KubePlace
from orchestrator.ray_session import import_ray

ROOT = Path(__file__).parents[2]
CLOUDS = ROOT / "cluster" / "clouds"
CONTAINER = (ROOT / "cluster" / "Containerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RAY = KubePlace().ray_version


@pytest.fixture
def prepared(monkeypatch):
    """A file of ray up with Ray's defaults, as Ray's own validator took it."""
    import_ray()
    from ray.autoscaler._private.util import prepare_config, validate_config

    def prepare(text: str) -> dict:
        config = prepare_config(yaml.safe_load(text))
        validate_config(config)
        return config

    return prepare


def test_ray_takes_the_cluster_on_aws(prepared):
    config = prepared((CLOUDS / "aws.yaml").read_text())
    workers = config["available_node_types"]["spot_gpu"]
    assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert config["available_node_types"]["head"]["resources"]["CPU"] == 0


def test_ray_takes_the_cluster_of_own_hosts(prepared):
    config = prepared((CLOUDS / "on_premise.yaml").read_text())
    assert config["max_workers"] == 2


def test_ray_refuses_a_misspelt_field(prepared):
    with pytest.raises(ValidationError, match="max_worker"):
        prepared((CLOUDS / "aws.yaml").read_text() + "\nmax_worker: 3\n")


def test_kuberay_takes_the_standing_cluster():
    assert faults_of(yaml.safe_load((CLOUDS / "raycluster.yaml").read_text())) == []


def test_the_image_has_the_ray_that_manifests_name_and_the_project_allows():
    (wanted,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "ray")
    assert re.search(r"^ARG RAY=(\S+)$", CONTAINER, re.M)[1] == RAY
    assert RAY in wanted.specifier
    extras = re.search(r'"ray\[(.*)\]==\$\{RAY\}"', CONTAINER)[1].split(",")
    assert set(extras) == wanted.extras


def test_the_image_has_a_python_that_the_project_allows():
    major, minor = re.search(r"-py(\d)(\d+)", CONTAINER).groups()
    assert f"{major}.{minor}.0" in SpecifierSet(PROJECT["requires-python"])


def test_the_image_holds_every_package_of_the_project():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    copied = set(re.findall(r"^COPY \S+ (\w+) /home", CONTAINER, re.M))
    assert folders == copied


@pytest.mark.parametrize("name", ["aws.yaml", "on_premise.yaml"])
def test_nodes_install_the_same_ray_and_ask_for_a_token(name):
    text = (CLOUDS / name).read_text()
    assert f"'ray[data,default,train,tune]=={RAY}'" in text
    config = yaml.safe_load(text)
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in " ".join(starts)
