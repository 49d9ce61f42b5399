"""A real S3 server on this machine, in a process of its own, and folders of its own for tests."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs

BUCKET = "bucket"
PATIENCE_S = 60.0
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": f"id-{uuid.uuid4().hex}",
    "AWS_SECRET_ACCESS_KEY": f"secret-{uuid.uuid4().hex}",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a client needs in its environment; the server takes any credentials."""


class S3Server:
    """Buckets in memory, listening on the loopback interface."""

    def __init__(self, port: int) -> None:
        self.port = port

    def uri(self, folder: str, port: int | None = None) -> str:
        """A folder of the bucket, reached directly or through another port."""
        query = f"region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{port or self.port}"
        return f"s3://{BUCKET}/{folder}?{query}"


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server with one empty bucket; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        _wait(process, port)
        server = S3Server(port)
        query = "allow_bucket_creation=true&" + server.uri("").partition("?")[2]
        pafs.FileSystem.from_uri(f"s3://{BUCKET}?{query}")[0].create_dir(BUCKET)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the S3 server ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)  # how often it is tried; nothing waits for a fixed time
    raise AssertionError("the S3 server did not start")


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """These environment variables while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
