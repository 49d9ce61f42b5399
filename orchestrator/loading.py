"""From YAML files and ``--set a.b=c`` to a RunConfig; every fault is reported at once."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.methods import load_method
from orchestrator.tracking.secrets import redact
from trainables.spec import Spec

TAGS = ("kind", "schedule", "task")
"""Fields that say which of several forms a setting has."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of a YAML file with overrides on top of its method's recipe.

    Raises:
        ConfigError: The file can't be read, or holds faults; all of them are listed.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text: {error}") from error
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: the top level must be fields, found {type(tree).__name__}")
    tree.setdefault("name", path.stem.replace("_", "-").lower())
    return build_config(tree, overrides, where=str(path))


def build_config(
    tree: dict[str, Any], overrides: Sequence[str] = (), where: str = "config"
) -> RunConfig:
    """The configuration of plain values with overrides on top of its method's recipe.

    Raises:
        ConfigError: There are faults; all of them are listed.
    """
    for text in overrides:
        path, value = _parse_override(text)
        tree = _put(tree, path, value, text)
    method = load_method(str(tree.get("method", "default")))
    recipe = merge(method.recipe.plain(), tree.get("recipe") or {})
    tree = {**tree, "recipe": recipe}
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(describe_faults(error, RunConfig, tree, where)) from None


def merge(base: Any, changes: Any) -> Any:
    """``base`` with ``changes`` laid over it; another kind or schedule replaces the whole."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    for tag in TAGS:
        if tag in changes and tag in base and changes[tag] != base[tag]:
            return changes
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = merge(base[key], value) if key in base else value
    return merged


def _parse_override(text: str) -> tuple[list[str], Any]:
    path, equals, value = text.partition("=")
    if not equals or not path or "" in path.split("."):
        raise ConfigError(f"--set {text!r}: must read a.b.c=value")
    try:
        return path.split("."), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is no valid YAML: {error}") from error


def _put(tree: dict[str, Any], path: list[str], value: Any, text: str) -> dict[str, Any]:
    head, *rest = path
    if not rest:
        return {**tree, head: value}
    below = tree.get(head) or {}
    if not isinstance(below, dict):
        raise ConfigError(f"--set {text!r}: {head} is {below!r} and has no fields")
    return {**tree, head: _put(below, rest, value, text)}


def describe_faults(
    error: ValidationError, model: type[Spec], tree: dict[str, Any], where: str
) -> str:
    """All faults of a validation, one line each: path, what was found, what was needed.

    What was found is shown without secrets.
    """
    lines = []
    for fault in error.errors():
        path = _path_in(tree, fault["loc"], missing=fault["type"] == "missing")
        at = ".".join(path) or "config"
        if fault["type"] == "extra_forbidden":
            names = _field_names(model, tree, path[:-1])
            near = get_close_matches(path[-1], names, n=1, cutoff=0.5)
            if path[-1] in _field_names(model, tree, [*path[:-1], "recipe"]):
                near = [".".join([*path[:-1], "recipe", path[-1]])]
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(names)}"
            lines.append(f"{at}: no such field; {hint}")
        elif fault["type"] == "missing":
            lines.append(f"{at}: this field is required")
        elif fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
            lines.append(f"{at}.{_tag_fault(fault)}")
        else:
            found = fault["input"]
            shown = (
                f", found {redact(found)!r}" if isinstance(found, str | int | float | None) else ""
            )
            lines.append(f"{at}: {_needed(fault['msg'])}{shown}")
    heading = f"{where}: {len(lines)} fault{'s' if len(lines) > 1 else ''}"
    return "\n".join([heading, *(f"  {line}" for line in lines)])


def _tag_fault(fault: ErrorDetails) -> str:
    """What is wrong with the field that says which form a setting has."""
    context = fault.get("ctx", {})
    name = str(context["discriminator"]).strip("'")
    if "tag" not in context:
        return f"{name}: this field is required"
    known = [part.strip("' ") for part in str(context["expected_tags"]).split(",")]
    near = get_close_matches(str(context["tag"]), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{name}: there is no {context['tag']!r}; {hint}known: {', '.join(known)}"


def _needed(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def _path_in(tree: Any, loc: tuple[int | str, ...], *, missing: bool) -> list[str]:
    """The path as the user wrote it: pydantic also names the chosen form of a union."""
    path: list[str] = []
    told: object = None  # the settings whose form the location has named
    for i, part in enumerate(loc):
        if isinstance(tree, dict) and tree is not told and part in map(tree.get, TAGS):
            told = tree
            continue
        inside = isinstance(tree, dict) and part in tree
        if isinstance(tree, list | tuple):
            inside = isinstance(part, int) and part < len(tree)
        if inside:
            tree = tree[part]
        elif not (missing and i == len(loc) - 1):
            continue
        path.append(str(part))
    return path


def _field_names(model: type[Spec], tree: Any, path: list[str]) -> list[str]:
    """Fields of the settings object at a path, following the forms that the values chose."""
    current: type[Spec] | None = model
    for part in path:
        tree = tree.get(part, {}) if isinstance(tree, dict) else {}
        known = current.model_fields.get(part) if current else None
        current = _chosen(known.annotation, tree) if known else None
    return sorted(current.model_fields) if current else []


def _chosen(annotation: Any, tree: Any) -> type[Spec] | None:
    """The settings class among the forms of an annotation that the values choose."""
    forms = [f for f in _forms(annotation) if isinstance(f, type) and issubclass(f, Spec)]
    for form in forms:
        for tag in TAGS:
            field = form.model_fields.get(tag)
            if field is not None and isinstance(tree, dict) and tree.get(tag) == field.default:
                return form
    return forms[0] if forms else None


def _forms(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _forms(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [form for part in get_args(annotation) for form in _forms(part)]
    return [annotation]
