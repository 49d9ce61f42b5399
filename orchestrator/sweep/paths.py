"""Values at dotted paths of a config in plain form."""

from collections.abc import Mapping
from typing import Any

from orchestrator.loading import TAGS


def lay(tree: dict[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with values put at their paths; another kind or schedule replaces the whole."""
    for path in sorted(chosen, key=lambda p: (p.count("."), p.rpartition(".")[2] not in TAGS)):
        tree = _put(tree, path.split("."), chosen[path])
    return tree


def _put(tree: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    below = tree if isinstance(tree, dict) else {}
    if rest:
        return {**below, head: _put(below.get(head), rest, value)}
    if head in TAGS and below.get(head) != value:
        return {head: value}
    return {**below, head: value}


def look(tree: Any, path: str) -> Any:
    """The value at a path of a plain tree; None if there is none."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
