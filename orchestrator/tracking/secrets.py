"""Nothing that looks like a secret reaches a file, a log or a message.

Secrets are credentials in URIs, values of environment variables whose names say so, and passwords
of the netrc file, where W&B keeps its key.
"""

import logging
import netrc
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrator.store.uri import SECRET_FIELDS

NAMES = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|_PAT$|AUTHORIZATION|COOKIE", re.IGNORECASE
)
IN_URI = re.compile(r"(?<=://)(?:[^/\s]+|[^\s/:]+:(?!\d+/)\S+)(?=@)")
IN_QUERY = re.compile(f"({SECRET_FIELDS.pattern})[^&\\s]+", re.IGNORECASE)
HIDDEN = "***"
SHORTEST = 6


def redact(value: Any) -> Any:
    """The value with credentials in URIs and all known secrets hidden."""
    return _without(secrets(), value)


def secrets() -> list[str]:
    """Values that must not be shown, longest first."""
    named = {value for name, value in os.environ.items() if NAMES.search(name)}
    kept = os.environ.get("NETRC")
    path = Path(kept) if kept else Path.home() / ".netrc"
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        passwords: frozenset[str] = frozenset()
    else:
        passwords = _passwords(path, changed)
    return sorted((s for s in named | passwords if len(s) >= SHORTEST), key=len, reverse=True)


class Redacting(logging.Filter):
    """Hides secrets in what a handler is about to write."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the finished message, without secrets, in the place of its parts."""
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info is not None:
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_info, record.exc_text = None, redact(text)
        return True


def _without(hidden: Sequence[str], value: Any) -> Any:
    """The value without these strings, whatever it holds them in."""
    if isinstance(value, str):
        text = IN_QUERY.sub(rf"\1{HIDDEN}", IN_URI.sub(_hidden, value))
        for secret in hidden:
            text = text.replace(secret, HIDDEN)
        return text
    if isinstance(value, dict):
        return {_without(hidden, k): _without(hidden, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without(hidden, item) for item in value]
    return value


def _hidden(found: re.Match[str]) -> str:
    return found[0] if found[0] == "anonymous" else HIDDEN


@lru_cache(maxsize=4)
def _passwords(path: Path, changed: int) -> frozenset[str]:
    """Passwords of a netrc file as it was at a time."""
    del changed
    try:
        hosts = netrc.netrc(path).hosts.values()
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return frozenset()
    return frozenset(password for _, _, password in hosts if password)
