"""URIs of stores and data sets: a folder below a root, and no credentials in them."""

import re

SECRET_FIELDS = re.compile(
    r"[?&][^=&\s]*(key|token|secret|password|passwd|credential|signature)[^=&\s]*=", re.IGNORECASE
)
"""Names of query fields that hold credentials."""
NO_CREDENTIALS = (
    "holds credentials, which would be written into records and logs: leave them out of the URI "
    "and set them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, "
    "GOOGLE_APPLICATION_CREDENTIALS) or use the machine's role"
)


def below(root: str, name: str) -> str:
    """The root of a folder inside another root; a URI keeps its query."""
    base, mark, query = root.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def holds_credentials(uri: str) -> bool:
    """Whether a URI names a user, a password or a key; the public user 'anonymous' is none."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return False
    if SECRET_FIELDS.search(rest):
        return True
    before, at, _ = rest.partition("@")
    named = bool(at) and ("/" not in before or (":" in before and scheme in ("s3", "gs", "gcs")))
    return named and before != "anonymous"


def without_credentials(uri: str) -> str:
    """The same URI.

    Raises:
        ValueError: It holds credentials; the message does not repeat them.
    """
    if holds_credentials(uri):
        raise ValueError(NO_CREDENTIALS)
    return uri
