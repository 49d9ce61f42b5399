"""Ray Jobs: the one place where the submission client of Ray is used."""

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.environment import prepare_environment
from orchestrator.errors import InfeasibleError

TOKEN_FILE = ".ray/auth_token"


def auth_token() -> str | None:
    """The token of the cluster, looked for where Ray looks: variable, named file, home folder.

    Raises:
        InfeasibleError: RAY_AUTH_TOKEN_PATH names a file that can't be read.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / TOKEN_FILE
    try:
        return path.read_text().strip() or None
    except OSError as error:
        if named:
            raise InfeasibleError(f"RAY_AUTH_TOKEN_PATH: {path}: {error.strerror}") from error
        return None


def connect(address: str | None) -> Any:
    """A client of the cluster's job server.

    Raises:
        Exception: Whatever Ray raises; `explain` turns it into one of ours.
    """
    prepare_environment()
    if address is not None:
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # or RAY_ADDRESS would win over it
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)
    token = auth_token()
    headers = {"Authorization": f"Bearer {token}"} if token else None
    return JobSubmissionClient(address, headers=headers)


def passing(error: Exception) -> bool:
    """Whether trying again may help: the dashboard or its agent isn't up yet."""
    if isinstance(error, ConnectionError) or type(error).__module__.startswith("requests"):
        return True
    text = str(error)
    busy = any(f"status code {code}" in text for code in (502, 503, 504))
    return busy or "No available agent" in text


def explain(error: Exception, address: str | None) -> InfeasibleError:
    """An error of the client, in words that tell what to do."""
    shown = address or os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265"
    if type(error).__name__ == "AuthenticationError":
        return InfeasibleError(
            f"{shown} wants a token: put the cluster's into RAY_AUTH_TOKEN, into a file named by "
            "RAY_AUTH_TOKEN_PATH, or into ~/.ray/auth_token"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
    told = lines[-1] if lines else type(error).__name__  # a refusal ends with its reason
    if passing(error):
        told += "; check launch.ray.address, and that its dashboard (8265) can be reached from here"
    return InfeasibleError(f"the Ray cluster at {shown} can't be used: {told}")


def tail(client: Any, submission: str) -> Iterator[str]:
    """What the job prints, as it comes, until it ends.

    Raises:
        Exception: Whatever Ray raises when the connection is lost.
    """
    pieces: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()

    async def pump() -> None:
        async for piece in client.tail_job_logs(submission):
            pieces.put(piece)

    def work() -> None:
        try:
            asyncio.run(pump())
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            pieces.put(error)
        finally:
            pieces.put(None)

    threading.Thread(target=work, daemon=True).start()
    while (piece := pieces.get()) is not None:
        if isinstance(piece, Exception):
            raise piece
        yield piece
