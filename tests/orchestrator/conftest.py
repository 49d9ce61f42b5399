"""One S3 server, and one small run that nothing happens to, for all tests that need them."""

from collections.abc import Iterator

import pytest

from tests.orchestrator.injected import Killed, run_with
from tests.orchestrator.s3 import ENVIRONMENT, S3Server, environment, s3_server
from tests.orchestrator.small_runs import Whole, prepare_small, small_config


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server on the loopback interface, with credentials for it in the environment."""
    pytest.importorskip("moto")
    with environment(ENVIRONMENT), s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


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
