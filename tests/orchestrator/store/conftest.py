"""Roots on a local folder, on S3, and on a file system that can't rename atomically."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest


@pytest.fixture(params=["local", "object", pytest.param("s3", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    name = f"store-{uuid.uuid4().hex}"
    if request.param == "local":
        yield str(tmp_path / "a store")
        return
    if request.param == "s3":
        yield request.getfixturevalue("s3").uri(name)
        return
    yield f"fsspec+memory://{name}"
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{name}"):
        memory.rm(f"/{name}", recursive=True)
