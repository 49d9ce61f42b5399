"""Dimensions: what may vary of one field, as a range or as choices, and when it exists at all."""

import json
import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from orchestrator.errors import ConfigError
from orchestrator.sweep.conditions import When
from trainables.spec import Spec


class Range(Spec):
    """Numbers between two bounds, both included."""

    low: float
    """Least value."""
    high: float
    """Largest value."""
    scale: Literal["linear", "log", "one_minus_log"] = "linear"
    """'log' spreads evenly over factors; 'one_minus_log' does so for one minus the value, which
    suits averaging rates and high thresholds."""
    step: float | None = None
    """Distance between values; None allows any."""
    whole: bool = False
    """Only whole numbers; integer fields are always so."""
    when: When = {}
    """Values of other fields for which this one exists; see `orchestrator.sweep.conditions`."""

    @model_validator(mode="after")
    def _legal(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"the range is empty: low {self.low:g} is not below {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"scale log needs low above 0, found {self.low:g}")
        if self.scale == "one_minus_log" and self.high >= 1:
            raise ValueError(f"scale one_minus_log needs high below 1, found {self.high:g}")
        if self.step is not None and (self.scale != "linear" or self.step <= 0):
            raise ValueError("step must be above 0 and goes with scale linear only")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError(f"step {self.step:g} is wider than the range")
        return self


class Choices(Spec):
    """One of some values, which may be schedules or lists."""

    choices: tuple[Any, ...] = Field(min_length=1)
    """The values."""
    when: When = {}
    """Values of other fields for which this one exists; see `orchestrator.sweep.conditions`."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        texts = [json.dumps(choice, sort_keys=True) for choice in self.choices]
        if len(set(texts)) < len(texts):
            raise ValueError("a choice stands twice")
        return self


Parameter = Range | Choices
_RANGE, _CHOICES = TypeAdapter(Range), TypeAdapter(Choices)


def parameter_of(entry: dict[str, Any]) -> Parameter:
    """The range or the choices that an entry of a space says.

    Raises:
        ValidationError: It is neither, or empty.
    """
    return (_CHOICES if "choices" in entry else _RANGE).validate_python(entry)


def extremes(parameter: Parameter) -> list[Any]:
    """All choices, or both ends of a range."""
    if isinstance(parameter, Choices):
        return list(parameter.choices)
    return [parameter.low, parameter.high]


@dataclass(frozen=True)
class Dimension:
    """One searchable field."""

    path: str
    parameter: Parameter
    whole: bool
    """Whether only whole numbers are legal."""

    def contains(self, value: Any) -> bool:
        """Whether the space can propose this value."""
        if isinstance(self.parameter, Choices):
            return value in [_plain(choice) for choice in self.parameter.choices]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.parameter.low, self.parameter.high
        steps = (value - low) / self.parameter.step if self.parameter.step else 0.0
        return low <= value <= high and math.isclose(steps, round(steps), abs_tol=1e-9)

    def points(self) -> tuple[Any, ...]:
        """Every value, for a grid.

        Raises:
            ConfigError: The range has no step.
        """
        if isinstance(self.parameter, Choices):
            return self.parameter.choices
        step = self.parameter.step or (1.0 if self.whole else None)
        if step is None or self.parameter.scale != "linear":
            raise ConfigError(f"sweep.space.{self.path}: a grid needs choices or a linear step")
        count = math.floor((self.parameter.high - self.parameter.low) / step + 1e-9) + 1
        low, high = self.parameter.low, self.parameter.high
        # as many digits as people write: 0.3, not 0.30000000000000004
        values = [min(high, float(f"{low + i * step:.12g}")) for i in range(count)]
        return tuple(round(v) if self.whole else v for v in values)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
