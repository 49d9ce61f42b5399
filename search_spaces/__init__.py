"""What may vary: pure data. A YAML file of this folder is a fragment of a search space.

A fragment maps the path of a field to a range or to choices, in the words of a config's
``sweep.space``; ``when`` says for which values of other fields the entry exists. Methods name the
fragments that apply to them, and a config may narrow, widen, add to or drop what they hold.
"""

from importlib.resources import files
from typing import Any

import yaml


def fragment_names() -> list[str]:
    """Names of all fragments, sorted."""
    found = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def read_fragment(name: str) -> dict[str, dict[str, Any]]:
    """The entries of a fragment by path.

    Raises:
        FileNotFoundError: There is no fragment of this name.
    """
    text = files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return entries
