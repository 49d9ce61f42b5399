"""One S3 server, one finished run, one that nothing happens to, for all tests that need them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.delivered import export
from orchestrator.loading import build_config
from orchestrator.runs import RunRecord
from tests.conftest import QUICK
from tests.orchestrator.helpers import play
from tests.orchestrator.injected import Killed, run_with
from tests.orchestrator.label_sources import SOURCES, written
from tests.orchestrator.s3 import ENVIRONMENT, S3Server, environment, s3_server
from tests.orchestrator.small_runs import Whole, prepare_small, small_config


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server on the loopback interface, with credentials for it in the environment."""
    pytest.importorskip("moto")
    with environment(ENVIRONMENT), s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def played(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A short run on the digits, for tests that only read it."""
    root = tmp_path_factory.mktemp("run")
    places = {"data": str(digits), "store": f"{root}/store", "runs": f"{root}/runs"}
    return play(build_config(QUICK | places, ()))


@pytest.fixture
def student(played: RunRecord, tmp_path: Path) -> Path:
    """The folder of the student that this run delivers."""
    export(played, tmp_path / "student")
    return tmp_path / "student"


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A small run that nothing happens to, and how its process ended."""
    folder = tmp_path_factory.mktemp("whole")
    data = prepare_small(folder / "data")
    run_with(small_config(data, folder / "none"), folder, Killed(1))  # what is imported only once
    config = small_config(data, folder / "run")
    ended = run_with(config, folder)
    assert ended.code == 0, ended.text
    return Whole(config, ended)


@pytest.fixture
def label_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of label functions on the path, `my_labels`."""
    (tmp_path / "my_labels.py").write_text(SOURCES)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """Random weights of a tiny timm network with ten outputs."""
    return written(tmp_path / "weights.safetensors", 0)
