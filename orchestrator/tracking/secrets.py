"""Nothing that looks like a secret reaches a file, a log or a message."""

import os
import re
from typing import Any

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
IN_URI = re.compile(r"(?<=://)[^/\s]+(?=@)")
HIDDEN = "***"
SHORTEST = 6


def redact(value: Any) -> Any:
    """The value with credentials in URIs and values of secret environment variables hidden."""
    if isinstance(value, str):
        text = IN_URI.sub(HIDDEN, value)
        for name, secret in os.environ.items():
            if NAMES.search(name) and len(secret) >= SHORTEST and secret in text:
                text = text.replace(secret, HIDDEN)
        return text
    if isinstance(value, dict):
        return {redact(k): redact(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value
