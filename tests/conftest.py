"""Shared fixtures: a prepared set of real digits, small configs, one Ray cluster for all."""

import gc
from collections.abc import Callable
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

LONGEST = (
    "test_gains.py",
    "test_learning.py",
    "test_chaos.py",
    "test_label_source_laws.py",
    "test_landmarks.py",
    "engines/test_engines.py",
    "sweep/test_sweep_chaos.py",
    "test_play.py",
    "sweep/test_session.py",
    "test_label_sources.py",
    "test_methods.py",
    "test_extension.py",
)
"""Files of tests that take minutes, in `tests/orchestrator`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first, so that no process is left alone with one at the end."""
    folder = Path(__file__).with_name("orchestrator")
    place = {folder / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: no collection of garbage looks at it."""
    gc.collect()
    gc.freeze()


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

QUICK_POINTS: dict[str, Any] = {
    "name": "dots",
    "recipe": {
        "student": {"backbone": {"width": 8}, "stride": 2, "width": 16},
        "training": {
            "steps": {"first_round": 8, "base": 4},
            "batch": {"labelled": 6},
            "objective": {"sigma_px": 1.5},
        },
    },
    "placement": {"engine": "local"},
    "tracking": {"wandb": "disabled"},
}
"""A landmark run of few steps; a method adds what its rounds are."""


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real digits: 100 labelled, 1,047 in the pool (5 fragments), 200 validation, 450 test."""
    out = tmp_path_factory.mktemp("data") / "digits"
    spec = PrepareSpec(labelled_per_class=10, validation=200, test=450, fragment_rows=256)
    prepare("digits", out, spec)
    return out


@pytest.fixture(scope="session")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with three points in two clips: 12 labelled, 32 in the pool, 8 and 8 to score."""
    from tests.orchestrator.dots import write_dots

    folder = tmp_path_factory.mktemp("dots")
    spec = PrepareSpec(labelled=12, validation=8, test=8, fragment_rows=10)
    prepare(write_dots(folder / "source"), folder / "dots", spec)
    return folder / "dots"


@pytest.fixture
def make_dots_config(dots: Path, tmp_path: Path) -> MakeConfig:
    """Configs of quick runs on the dots, with overrides; store and runs below tmp_path."""

    def make(*overrides: str, data: Path = dots, method: str = "landmark_rounds") -> RunConfig:
        tree = QUICK_POINTS | {
            "method": method,
            "data": str(data),
            "store": str(tmp_path / "store"),
            "runs": str(tmp_path / "runs"),
        }
        return build_config(tree, overrides)

    return make


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


@pytest.fixture
def ray_cluster() -> None:
    """One Ray cluster with 4 logical CPUs for all tests that need one, until one brings its own."""
    from orchestrator.ray_session import import_ray

    ray = import_ray()
    if not ray.is_initialized():
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=200 * 2**20,
        )
