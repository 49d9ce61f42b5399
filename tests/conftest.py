"""Shared fixtures: a prepared set of real digits, small configs, one Ray cluster for all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.environment import prepare_environment

prepare_environment()

import pytest
import torch

from orchestrator.config import RunConfig
from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import prepare
from orchestrator.loading import build_config

torch.set_num_threads(1)

MakeConfig = Callable[..., RunConfig]

QUICK: dict[str, Any] = {
    "name": "quick",
    "method": "class_balanced_curriculum",
    "recipe": {
        "student": {"kind": "small_cnn", "width": 8},
        "training": {
            "steps": {"first_round": 30, "base": 20},
            "objective": {"weak": {"flip": 0.0}, "strong": {"flip": 0.0}},
            "optimiser": {"learning_rate": 0.1},
        },
        "selector": {"kind": "class_share", "share": 0.5},
        "policy": {"num_rounds": 2},
    },
    "placement": {"engine": "local"},
    "tracking": {"wandb": "disabled"},
}
"""A run of two short rounds that still learns."""


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real digits: 100 labelled, 1,047 in the pool (5 fragments), 200 validation, 450 test."""
    out = tmp_path_factory.mktemp("data") / "digits"
    spec = PrepareSpec(labelled_per_class=10, validation=200, test=450, fragment_rows=256)
    prepare("digits", out, spec)
    return out


@pytest.fixture
def make_config(digits: Path, tmp_path: Path) -> MakeConfig:
    """Configs of quick runs on the digits, with overrides; store and runs below tmp_path."""

    def make(*overrides: str, data: Path = digits) -> RunConfig:
        tree = QUICK | {
            "data": str(data),
            "store": str(tmp_path / "store"),
            "runs": str(tmp_path / "runs"),
        }
        return build_config(tree, overrides)

    return make


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray cluster with 4 logical CPUs for all tests that need one."""
    from orchestrator.ray_session import import_ray

    ray = import_ray()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
    )
    yield
    ray.shutdown()
