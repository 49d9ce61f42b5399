"""Conditions: for which values of other fields a dimension exists.

A condition maps the path of a field to the value that it must have, to a list of which it must have
one, or to ``{not: ...}`` with what it must not have. Of several conditions in a list one must hold.
A field that is not there counts as null.
"""

from collections.abc import Callable, Mapping
from typing import Any

Condition = dict[str, Any]
When = Condition | tuple[Condition, ...]


def alternatives(when: When) -> tuple[Condition, ...]:
    """The conditions of which one must hold; none if nothing is asked."""
    if isinstance(when, tuple):
        return when
    return (when,) if when else ()


def paths_of(when: When) -> set[str]:
    """Paths of the fields that are named."""
    return {path for condition in alternatives(when) for path in condition}


def matches(value: Any, wanted: Any) -> bool:
    """Whether a field's value is a wanted one."""
    if _negated(wanted):
        return not matches(value, wanted["not"])
    return value in wanted if isinstance(wanted, list | tuple) else value == wanted


def named_values(wanted: Any) -> list[Any]:
    """The values that are wanted by name; none where all but some are."""
    if _negated(wanted):
        return []
    return list(wanted) if isinstance(wanted, list | tuple) else [wanted]


def holds(when: When, read: Callable[[str], Any]) -> bool:
    """Whether a condition is met by the values that ``read`` gives of paths, or none is asked."""
    asked = alternatives(when)
    return not asked or any(
        all(matches(read(path), wanted) for path, wanted in condition.items())
        for condition in asked
    )


def wording(when: When) -> str:
    """The conditions as a person reads them."""
    return ", or ".join(
        ", ".join(
            f"{path} other than {wanted['not']}" if _negated(wanted) else f"{path} = {wanted}"
            for path, wanted in condition.items()
        )
        for condition in alternatives(when)
    )


def _negated(wanted: Any) -> bool:
    return isinstance(wanted, Mapping) and set(wanted) == {"not"}
