"""One S3 server for all tests that need one."""

from collections.abc import Iterator

import pytest

from tests.orchestrator.s3 import ENVIRONMENT, S3Server, environment, s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server on the loopback interface, with credentials for it in the environment."""
    pytest.importorskip("moto")
    with environment(ENVIRONMENT), s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
