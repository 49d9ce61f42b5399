"""A proxy between a client and an HTTP server on this machine that breaks requests as it is told.

It speaks one request a connection. A plan says for each request, by its number, what goes wrong.
"""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Fault = Literal["none", "slow", "busy", "error", "refused", "unanswered", "half"]
Plan = Callable[[int, str], Fault]
"""What becomes of a request, by its number from 0 and its first line."""
SLOW_S = 0.15
BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: 86\r\n\r\n"
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>reduce it</Message></Error>\n"
)
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Proxy:
    """Counts what it saw; ``plan`` may be changed while it runs."""

    def __init__(self, server: int, plan: Plan) -> None:
        self.plan, self._server = plan, server
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._one_at_a_time = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no further request."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(10)
            request = _request(client)
            if not request:
                return
            line = request.partition(b"\r\n")[0].decode("latin-1")
            with self._one_at_a_time:
                fault = self.plan(len(self.requests), line)
                self.requests.append(line)
                self.faults.append(fault)
            if fault == "slow":
                time.sleep(SLOW_S)  # the delay is the fault
            if fault == "refused":
                return
            if fault in ("busy", "error"):
                client.sendall(BUSY if fault == "busy" else ERROR)
                return
            answer = self._ask(request)
            if fault == "half":
                head, _, body = answer.partition(b"\r\n\r\n")
                answer = head + b"\r\n\r\n" + body[: len(body) // 2] if body else head
            if fault != "unanswered":
                client.sendall(answer)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._server), timeout=10) as server:
            server.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            parts = []
            while part := server.recv(1 << 16):
                parts.append(part)
        return b"".join(parts)


def _request(client: socket.socket) -> bytes:
    """One whole request; empty if the client left."""
    content = b""
    while b"\r\n\r\n" not in content:
        part = client.recv(1 << 16)
        if not part:
            return b""
        content += part
    head, _, body = content.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    if b"100-continue" in fields.get(b"expect", b""):
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(x for x in head.split(b"\r\n") if not x.lower().startswith(b"expect"))
    length = int(fields.get(b"content-length", b"0"))
    chunked = b"chunked" in fields.get(b"transfer-encoding", b"")
    while not _chunks_end(body) if chunked else len(body) < length:
        part = client.recv(1 << 16)
        if not part:
            return b""
        body += part
    kept = [x for x in head.split(b"\r\n") if not x.lower().startswith(b"connection:")]
    return b"\r\n".join(kept) + b"\r\n\r\n" + body


def _chunks_end(body: bytes) -> bool:
    """Whether a chunked body is whole."""
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end].partition(b";")[0], 16)
        if size == 0:
            return body.find(b"\r\n\r\n", at) >= 0
        at = end + 2 + size + 2
    return False


@contextmanager
def proxy(server: int, plan: Plan) -> Iterator[Proxy]:
    """A proxy to a port of this machine; it ends with the block."""
    running = Proxy(server, plan)
    try:
        yield running
    finally:
        running.close()


def each(*faults: Fault) -> Plan:
    """These faults, one request after the other, over and over."""
    return lambda number, line: faults[number % len(faults)]


def now_and_then(share: float, seed: int = 0) -> Plan:
    """Every kind of fault, drawn for about this share of the requests."""
    kinds: tuple[Fault, ...] = ("slow", "busy", "error", "refused", "unanswered", "half")

    def plan(number: int, line: str) -> Fault:
        draw = random.Random(f"{seed}-{number}")
        return draw.choice(kinds) if draw.random() < share else "none"

    return plan
