"""Schedules: values that may stand in any numeric field and move over rounds or over steps.

A field typed ``Annotated[Scalar, Bounds(...)]`` takes a number or a schedule. Schedules over rounds
are turned into numbers before a step is addressed (:func:`at_round`); schedules over steps stay
values and are read inside the training loop (:func:`at_step`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import CoreSchema, core_schema

from trainables.spec import Spec

Over = Literal["rounds", "steps"]
AnySpec = TypeVar("AnySpec", bound=Spec)


class _Moving(Spec):
    """What every schedule has: the axis it moves over."""

    over: Over = "rounds"
    """What the schedule moves over: the rounds of a run, or the training steps of one round."""


class Linear(_Moving):
    """A straight line from ``start`` to ``end``, reached at ``until`` and held from there on."""

    schedule: Literal["linear"] = "linear"
    start: float
    """Value at the beginning."""
    end: float
    """Value once ``until`` is reached."""
    until: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the axis after which the end value holds, in [0, 1]."""

    def value(self, share: float) -> float:
        passed = 1.0 if self.until == 0 else min(1.0, share / self.until)
        return self.start + (self.end - self.start) * passed

    def extremes(self) -> tuple[float, ...]:
        return (self.start, self.end)


class Cosine(_Moving):
    """Half a cosine from ``start`` to ``end``."""

    schedule: Literal["cosine"] = "cosine"
    start: float
    """Value at the beginning."""
    end: float
    """Value at the end."""

    def value(self, share: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2

    def extremes(self) -> tuple[float, ...]:
        return (self.start, self.end)


class SigmoidRamp(_Moving):
    """``start + (end - start) exp(-5 (1 - t)^2)`` with t clipped to [0, 1] at ``until``.

    With ``down_from`` it falls again: its height above ``start`` times ``exp(-12.5 t^2)``, t from 0
    there to 1 at the end.

    Source: Laine and Aila, Temporal Ensembling, ICLR 2017, arXiv:1610.02242, section 2; the fall as
    their learning rate's in appendix A, which TSAL, arXiv:2012.06711, applies to a weight; the
    start as rho_0 in Zhang et al., P2OT, ICLR 2024, arXiv:2401.09266.
    """

    schedule: Literal["sigmoid_ramp"] = "sigmoid_ramp"
    start: float = 0.0
    """What the ramp rises from: at t = 0 it stands a little above this."""
    end: float
    """Value once ``until`` is reached."""
    until: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the axis after which the end value holds, in [0, 1]."""
    down_from: Annotated[float, Ge(0), Lt(1)] | None = None
    """Share of the axis from which it falls again, in [0, 1); None: it holds."""

    def value(self, share: float) -> float:
        passed = 1.0 if self.until == 0 else min(1.0, share / self.until)
        height = (self.end - self.start) * math.exp(-5 * (1 - passed) ** 2)
        if self.down_from is not None and share > self.down_from:
            fallen = (share - self.down_from) / (1 - self.down_from)
            height *= math.exp(-12.5 * fallen**2)
        return self.start + height

    def extremes(self) -> tuple[float, ...]:
        return (self.start, self.end)

    @model_serializer(mode="wrap")
    def _without_a_start_of_zero(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Plain values; ramps from 0 keep the address that they had before they had a start."""
        plain: dict[str, Any] = write(self)
        return plain if self.start else {k: v for k, v in plain.items() if k != "start"}


class Geometric(_Moving):
    """``start * ratio^r`` in round r, never beyond ``least`` if that is given."""

    schedule: Literal["geometric"] = "geometric"
    over: Literal["rounds"] = "rounds"
    """Always the rounds of a run."""
    start: float
    """Value in round 0."""
    ratio: Annotated[float, Gt(0), Le(10)]
    """Factor from one round to the next."""
    least: float = 0.0
    """A falling value stops here."""

    def at(self, round_: int) -> float:
        """Value of a round."""
        return max(self.least, self.start * self.ratio**round_)

    def extremes(self) -> tuple[float, ...]:
        return (self.start, self.least) if self.ratio < 1 else (self.start,)


class Stepwise(_Moving):
    """One listed value for each round; the last one holds from there on."""

    schedule: Literal["stepwise"] = "stepwise"
    over: Literal["rounds"] = "rounds"
    """Always the rounds of a run."""
    values: Annotated[tuple[float, ...], Field(min_length=1)]
    """Values of rounds 0, 1, 2, ..."""

    def extremes(self) -> tuple[float, ...]:
        return self.values


Scalar = float | Linear | Cosine | SigmoidRamp | Geometric | Stepwise


@dataclass(frozen=True)
class Bounds:
    """Bounds of a scalar field, held by a number and by every extreme of a schedule."""

    low: float | None = None
    high: float | None = None
    over: tuple[Over, ...] = ("rounds",)
    """Axes that a schedule in this field may move over."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        del source, handler
        number = core_schema.float_schema(ge=self.low, le=self.high, allow_inf_nan=False)
        moving = core_schema.no_info_after_validator_function(self._check, _schedule_schema())
        return core_schema.tagged_union_schema(
            choices={"number": number, "moving": moving},  # no names that a field has
            discriminator=lambda v: "moving" if isinstance(v, dict | _Moving) else "number",
        )

    def _check(self, schedule: Any) -> Any:
        if schedule.over not in self.over:
            raise ValueError(f"a schedule here may move over {' or '.join(self.over)} only")
        for value in schedule.extremes():
            if self.low is not None and value < self.low:
                raise ValueError(f"the schedule reaches {value}, below the bound {self.low}")
            if self.high is not None and value > self.high:
                raise ValueError(f"the schedule reaches {value}, above the bound {self.high}")
        return schedule


def _schedule_schema() -> CoreSchema:
    choices = {kind: m.__pydantic_core_schema__ for kind, m in SCHEDULES.items()}
    return core_schema.tagged_union_schema(choices=choices, discriminator="schedule")


SCHEDULES: dict[str, type[_Moving]] = {
    "linear": Linear,
    "cosine": Cosine,
    "sigmoid_ramp": SigmoidRamp,
    "geometric": Geometric,
    "stepwise": Stepwise,
}


def at_step(value: Scalar, step: int, num_steps: int) -> float:
    """The number that a scalar has at a training step (0-based) of ``num_steps``."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Stepwise | Geometric) or value.over != "steps":
        raise ValueError(f"{value} moves over rounds: resolve it with at_round first")
    return value.value(step / max(1, num_steps - 1))


@dataclass(frozen=True)
class Moment:
    """Where a round's training stands."""

    step: int
    """Step that is made, from 0."""
    num_steps: int

    @property
    def share(self) -> float:
        """Share of the round that has passed, in [0, 1]."""
        return self.step / max(1, self.num_steps - 1)

    def value(self, scalar: Scalar) -> float:
        """The number that a scalar has now."""
        return at_step(scalar, self.step, self.num_steps)

    def settings(self, spec: AnySpec) -> AnySpec:
        """The same settings with every schedule over steps replaced by its number now."""
        return _replaced(
            spec,
            lambda each: each if each.over == "rounds" else self.value(each),  # type: ignore[arg-type] # both kinds
        )


def number(value: Scalar) -> float:
    """The number itself; refuses a schedule that was not resolved.

    Raises:
        ValueError: The field still holds a schedule.
    """
    if isinstance(value, int | float):
        return float(value)
    raise ValueError(f"{value} is a schedule: resolve it with at_round first")


def at_round(spec: AnySpec, round_: int, num_rounds: int) -> AnySpec:
    """The same settings with every schedule over rounds replaced by its number at ``round_``."""

    def resolved(schedule: _Moving) -> _Moving | float:
        if schedule.over == "steps":
            return schedule
        if isinstance(schedule, Geometric):
            return schedule.at(round_)
        if isinstance(schedule, Stepwise):
            return schedule.values[min(round_, len(schedule.values) - 1)]
        assert isinstance(schedule, Linear | Cosine | SigmoidRamp)  # noqa: S101 - narrowing
        return schedule.value(min(1.0, round_ / max(1, num_rounds - 1)))

    return _replaced(spec, resolved)


def schedules_over_steps(value: Any, where: str) -> list[str]:
    """Paths below ``where`` of all schedules over steps that these settings hold."""
    if isinstance(value, _Moving):
        return [where] if value.over == "steps" else []
    if isinstance(value, Spec):
        inner = [(f"{where}.{name}", getattr(value, name)) for name in type(value).model_fields]
        return [path for name, each in inner for path in schedules_over_steps(each, name)]
    if isinstance(value, tuple):
        return [
            p for i, each in enumerate(value) for p in schedules_over_steps(each, f"{where}.{i}")
        ]
    return []


def _replaced(spec: AnySpec, change: Callable[[_Moving], Any]) -> AnySpec:
    """The settings with every schedule replaced by what ``change`` makes of it."""
    changes: dict[str, Any] = {}
    for name in type(spec).model_fields:
        old = getattr(spec, name)
        new = _changed(old, change)
        if new is not old:
            changes[name] = new
    return spec.model_copy(update=changes) if changes else spec


def _changed(value: Any, change: Callable[[_Moving], Any]) -> Any:
    if isinstance(value, _Moving):
        return change(value)
    if isinstance(value, Spec):
        return _replaced(value, change)
    if isinstance(value, tuple):
        items = tuple(_changed(item, change) for item in value)
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value
