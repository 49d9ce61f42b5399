"""Methods: named recipes with their source. A file of this folder is a method; nothing registers.

A method's file holds one constant, ``METHOD``. `load_method` takes the file's name, or
``module.path:NAME`` for a method of your own from anywhere on the Python path.
"""

import importlib
import pkgutil
from difflib import get_close_matches

from orchestrator.errors import ConfigError
from orchestrator.method import Method


def method_names() -> list[str]:
    """Names of the methods that come with the project, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def load_method(name: str) -> Method:
    """The method of this name, or the one at ``module.path:NAME``.

    Raises:
        ConfigError: There is no such method; the nearest names are given.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        if name not in (known := method_names()):
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"no method {name!r}; {hint}known: {', '.join(known)}")
        module, attribute = f"{__name__}.{name}", "METHOD"
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"method {name!r} can't be loaded: {error}") from error
    if not isinstance(found, Method):
        raise ConfigError(f"method {name!r} is a {type(found).__name__}, not a Method")
    return found
