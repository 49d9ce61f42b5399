"""Addresses: the hash of exactly what decides a step's result.

An address covers the step's kind, the version of the code that computes that kind, the settings it
reads (resolved to plain numbers), the addresses of its inputs and its seed. Values without one
stable form are refused rather than guessed at.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
LENGTH = 24


def canonical(value: Any, at: str = "value") -> Plain:
    """The value as plain JSON with sorted keys and one form for each number.

    Raises:
        TypeError: The value, or something inside it, has no stable form.
        ValueError: A number is NaN or infinite.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{at}: {value} has no stable form in an address")
        return value + 0.0  # -0.0 becomes 0.0
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"{at}: keys must be text, found {odd[0]!r}")
        return {key: canonical(value[key], f"{at}.{key}") for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical(item, f"{at}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{at}: {type(value).__name__} has no stable form in an address")


def digest(value: Any) -> str:
    """A short hash of a value's canonical form: 24 hexadecimal digits (96 bits)."""
    return hashlib.sha256(_text(value).encode()).hexdigest()[:LENGTH]


def _text(value: Any) -> str:
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Fields in which two values differ, one line each: ``path: old -> new``.

    There are none exactly where the two have the same digest.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in sorted(old.keys() | new.keys()):
            path = f"{at}.{key}" if at else str(key)
            if key not in old:
                lines.append(f"{path}: (absent) -> {new[key]!r}")
            elif key not in new:
                lines.append(f"{path}: {old[key]!r} -> (absent)")
            else:
                lines += differences(old[key], new[key], path)
        return lines
    return [] if _text(old) == _text(new) else [f"{at}: {old!r} -> {new!r}"]
