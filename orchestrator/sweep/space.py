"""The space that a sweep searches: fragments and the config's own entries, checked before anything.

A dimension is a field of the config by its path. Which dimensions exist for a trial follows from
``when`` and from the values chosen before, so choices come before what depends on them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.loading import TAGS, describe_faults
from orchestrator.methods import load_method
from orchestrator.sweep.conditions import (
    Condition,
    alternatives,
    holds,
    matches,
    named_values,
    paths_of,
    wording,
)
from orchestrator.sweep.dimensions import (
    Choices,
    Dimension,
    Parameter,
    Range,
    extremes,
    parameter_of,
)
from orchestrator.sweep.paths import lay, look
from orchestrator.sweep.spec import SweepSpec
from search_spaces import fragment_names, read_fragment

Chosen = Mapping[str, Any]
"""Values by path."""
MOST_GRID_POINTS = 100_000


@dataclass(frozen=True)
class Space:
    """All dimensions of a sweep over one config."""

    base: RunConfig
    dimensions: tuple[Dimension, ...]
    """In an order in which each stands behind what its `when` names."""

    def over(self, **changes: Any) -> "Space":
        """The same space over a config with some fields changed."""
        return Space(self.base.model_copy(update=changes), self.dimensions)

    def exists(self, dimension: Dimension, chosen: Chosen) -> bool:
        """Whether a dimension exists once these values are chosen."""

        def read(path: str) -> Any:
            if path in chosen:
                return chosen[path]
            return look(lay(self._plain, _around(path, chosen)), path)

        return holds(dimension.parameter.when, read)

    @cached_property
    def _plain(self) -> dict[str, Any]:
        """The base in plain form; `lay` changes no tree in place."""
        return self.base.plain()

    def defaults(self) -> dict[str, Any]:
        """The base config's own values, of the dimensions that can hold them."""
        plain, chosen = self._plain, dict[str, Any]()
        for dimension in self.dimensions:
            value = look(plain, dimension.path)
            if self.exists(dimension, chosen) and dimension.contains(value):
                chosen[dimension.path] = value
        return chosen

    def config(self, chosen: Chosen) -> RunConfig:
        """The run of a trial.

        Raises:
            ConfigError: The values do not fit together; all faults are listed.
        """
        tree = {**lay(self._plain, chosen), "sweep": None}
        try:
            return RunConfig.model_validate(tree)
        except ValidationError as error:
            shown = ", ".join(f"{path}={value!r}" for path, value in chosen.items())
            where = f"trial of {shown}"
            raise ConfigError(describe_faults(error, RunConfig, tree, where)) from None

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every point of the space, the first dimension slowest.

        Raises:
            ConfigError: A range has no step.
        """
        for count, point in enumerate(self._grid({}, 0)):
            if count == MOST_GRID_POINTS:
                raise ConfigError(
                    f"the grid has more than {MOST_GRID_POINTS:,} points: give ranges a wider step "
                    "or take entries out"
                )
            yield point

    def _grid(self, chosen: dict[str, Any], at: int) -> Iterator[dict[str, Any]]:
        if at == len(self.dimensions):
            yield chosen
            return
        dimension = self.dimensions[at]
        if not self.exists(dimension, chosen):
            yield from self._grid(chosen, at + 1)
            return
        for value in dimension.points():
            yield from self._grid({**chosen, dimension.path: value}, at + 1)

    def plain(self) -> dict[str, Any]:
        """The space in plain values."""
        return {d.path: d.parameter.plain() for d in self.dimensions}


def resolve_space(config: RunConfig) -> Space:
    """The space of a config: its method's fragments with its own entries laid over them.

    Raises:
        ConfigError: Unknown names or paths, empty or illegal ranges; all faults are listed.
    """
    spec = config.sweep or SweepSpec()
    faults: list[str] = []
    entries = _from_fragments(config, spec, faults)
    own = set(spec.space)
    whole = tuple(f"{path}." for path, entry in spec.space.items() if entry is not None)
    # who searches a field as a whole does not want its parts varied by a fragment
    entries = {p: e for p, e in entries.items() if p in own or not p.startswith(whole)}
    for path, entry in spec.space.items():
        if entry is None:
            if entries.pop(path, None) is None:
                faults.append(f"{path}: there is nothing to take out{_near(path, entries)}")
        elif ("choices" in entry) == ("choices" in entries.get(path, entry)):
            entries[path] = {**entries.get(path, {}), **entry}
        else:
            entries[path] = entry
    parsed: dict[str, Parameter] = {}
    for path, entry in entries.items():
        try:
            parsed[path] = parameter_of(entry)
        except ValidationError as error:
            for fault in error.errors():
                at = ".".join([path, *map(str, fault["loc"])])
                faults.append(f"{at}: {fault['msg'].removeprefix('Value error, ')}")
    ordered = _in_order(parsed, faults)
    space = Space(config, tuple(Dimension(path, parsed[path], whole=False) for path in ordered))
    space = Space(config, _reachable(space, own, faults))
    dimensions = [_checked(space, dimension, faults) for dimension in space.dimensions]
    if not faults and not dimensions:
        faults.append(
            "nothing is searchable: name entries here, or fragments that fit the recipe "
            f"(sweep.fragments; known: {', '.join(fragment_names())})"
        )
    if faults:
        lines = [f"  {line}" for line in dict.fromkeys(faults)]
        plural = "s" if len(lines) > 1 else ""
        raise ConfigError("\n".join([f"sweep.space: {len(lines)} fault{plural}", *lines]))
    return Space(config, tuple(dimensions))


def _from_fragments(
    config: RunConfig, spec: SweepSpec, faults: list[str]
) -> dict[str, dict[str, Any]]:
    known = fragment_names()
    names = load_method(config.method).search if spec.fragments is None else spec.fragments
    entries: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in known:
            entries |= read_fragment(name)
        else:
            faults.append(f"no fragment {name!r}{_near(name, known)}")
    return entries


def _in_order(parsed: dict[str, Parameter], faults: list[str]) -> list[str]:
    """Paths such that each stands behind those that decide whether it exists."""
    ordered: list[str] = []
    rest = dict(parsed)
    while rest:
        free = [path for path, p in rest.items() if not _waits_for(path, p, rest)]
        if not free:
            faults.append(f"{', '.join(rest)}: their `when` depend on each other in a circle")
            return ordered
        ordered += sorted(free, key=lambda path: path.rpartition(".")[2] not in TAGS)
        rest = {path: p for path, p in rest.items() if path not in free}
    return ordered


def _waits_for(path: str, parameter: Parameter, rest: Mapping[str, Parameter]) -> bool:
    """Whether a field that this one's `when` names, or one that holds it, stands in the rest."""
    return any(
        named == other or (other != path and named.startswith(f"{other}."))
        for named in paths_of(parameter.when)
        for other in rest
    )


def _reachable(space: Space, own: set[str], faults: list[str]) -> tuple[Dimension, ...]:
    """Dimensions that exist for some values; of the user's own, others are faults."""
    kept: tuple[Dimension, ...] = ()
    for dimension in space.dimensions:
        before = Space(space.base, (*kept, dimension))  # what never exists meets no condition
        if before.exists(dimension, _conditions(before, dimension)):
            kept = before.dimensions
        elif dimension.path in own:
            wanted = wording(dimension.parameter.when)
            faults.append(f"{dimension.path}: never exists here, it needs {wanted}")
    return kept


def _conditions(space: Space, dimension: Dimension) -> dict[str, Any]:
    """Values of other dimensions for which this one exists, if there are such."""
    ways = [_met(space, dimension, each) for each in alternatives(dimension.parameter.when)]
    return next((way for way in ways if space.exists(dimension, way)), ways[0] if ways else {})


def _met(space: Space, dimension: Dimension, condition: Condition) -> dict[str, Any]:
    """Values of other dimensions by which this condition of a dimension is met, if there are."""
    others = {d.path: d for d in space.dimensions}
    chosen: dict[str, Any] = {}
    for path, wanted in condition.items():
        if path in others:
            chosen |= _conditions(space, others[path])
            options = named_values(wanted) or extremes(others[path].parameter)
            possible = [v for v in options if matches(v, wanted) and others[path].contains(v)]
            if possible:
                chosen[path] = possible[0]
            continue
        for holder in (d for p, d in others.items() if path.startswith(f"{p}.") and d != dimension):
            needed = _conditions(space, holder)
            if space.exists(holder, needed):  # the named field is a part of what it chooses
                below, values = path[len(holder.path) + 1 :], extremes(holder.parameter)
                fitting = [v for v in values if matches(look(v, below), wanted)]
                chosen = {holder.path: (fitting or values)[0], **chosen, **needed}
    return chosen


def _checked(space: Space, dimension: Dimension, faults: list[str]) -> Dimension:
    """The dimension, told whether its field is whole; its extremes tried on the whole config."""
    path = dimension.path
    if not path.startswith("recipe.") and path != "data":
        faults.append(
            f"{path}: only fields of the recipe, or data, can be searched: "
            "nothing else changes an outcome"
        )
        return dimension
    parameter = dimension.parameter
    whole = False
    for value in extremes(parameter):
        chosen = _example(space, {**_conditions(space, dimension), path: value})
        try:
            found = look(space.config(chosen).plain(), path)
        except ConfigError as error:
            faults += _faults_of(path, value, str(error).splitlines()[1:], space)
        else:
            whole = isinstance(found, int) and not isinstance(found, bool)
    if isinstance(parameter, Choices):
        return Dimension(path, parameter, whole=False)
    whole = whole or parameter.whole
    numbers = {"step": parameter.step}
    if parameter.whole:
        numbers |= {"low": parameter.low, "high": parameter.high}
    faults += [
        f"{path}.{name}: must be a whole number, found {value:g}"
        for name, value in numbers.items()
        if whole and value is not None and value % 1
    ]
    return Dimension(path, parameter, whole=whole)


def _faults_of(path: str, value: Any, lines: list[str], space: Space) -> list[str]:
    """The faults of a trial config that this dimension is to blame for."""
    stripped = [line.strip() for line in lines]
    others = [d.path for d in space.dimensions if d.path != path]
    if mine := [line for line in stripped if line.startswith(f"{path}:")]:
        return mine
    if any(line.startswith(f"{other}:") for line in stripped for other in others):
        return []  # told where that one is tried
    return [f"{path}: {value!r} is refused: {'; '.join(stripped)}"]


def _example(space: Space, fixed: dict[str, Any]) -> dict[str, Any]:
    """A full choice that holds the fixed values: defaults where they fit, else the first value."""
    plain, chosen = space.base.plain(), dict[str, Any]()
    for dimension in space.dimensions:
        path, parameter = dimension.path, dimension.parameter
        if path in fixed:
            chosen[path] = fixed[path]
        elif space.exists(dimension, {**chosen, **fixed}):
            default = look(lay(plain, chosen), path)
            first = parameter.low if isinstance(parameter, Range) else parameter.choices[0]
            chosen[path] = default if dimension.contains(default) else first
    return chosen


def _around(path: str, chosen: Chosen) -> dict[str, Any]:
    """The chosen values that may decide what a path holds: its own parts, and what holds it."""
    return {
        other: value
        for other, value in chosen.items()
        if path.startswith(f"{other.rpartition('.')[0]}.") or other.startswith(f"{path}.")
    }


def _near(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
