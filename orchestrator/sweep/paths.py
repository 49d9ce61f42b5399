"""Values at dotted paths of a config in plain form.

A list's part is named by its kind: ``recipe.calibrators.align.target``.
"""

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
    if (place := _place(tree, head)) is not None:
        part = _put(tree[place], rest, value) if rest else value
        return [*tree[:place], part, *tree[place + 1 :]]
    below = tree if isinstance(tree, dict) else {}
    if rest:
        return {**below, head: _put(below.get(head), rest, value)}
    if head in TAGS and below.get(head) != value:
        return {head: value}
    return {**below, head: value}


def look(tree: Any, path: str) -> Any:
    """The value at a path of a plain tree; None if there is none."""
    for part in path.split("."):
        if (place := _place(tree, part)) is not None:
            tree = tree[place]
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _place(tree: Any, kind: str) -> int | None:
    """Where the first part of this kind stands in a list; None if it is no list, or without it."""
    if not isinstance(tree, list | tuple):
        return None
    kinds = [part.get("kind") if isinstance(part, dict) else None for part in tree]
    return kinds.index(kind) if kind in kinds else None
