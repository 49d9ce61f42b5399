"""Population-based training over rounds: a trial that lags behind takes over another one's course.

Source: Jaderberg et al., Population based training of neural networks, arXiv:1711.09846, section 3
(truncation selection, perturbation by a factor).
Departs from the paper: members do not wait for each other, and nothing is copied: the follower is a
new trial whose fields hold the leader's values up to this round and perturbed ones from there on.
Those are schedules by round, so its first rounds have the leader's addresses and come from the
store.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.errors import ConfigError
from orchestrator.sweep.dimensions import Choices, Dimension
from orchestrator.sweep.space import Space
from orchestrator.sweep.spec import Population


@dataclass(frozen=True)
class Follower:
    """The trial that goes on in the place of one that lags behind."""

    leader: int
    """Number of the trial whose course it takes over."""
    chosen: dict[str, Any]
    """Values by path from the next round on."""
    course: dict[str, Any]
    """Schedules by path, of the fields that changed: the leader's values, then the new ones."""


def leader_of(
    population: Population, number: int, at_round: Mapping[int, float], draw: np.random.Generator
) -> int | None:
    """The trial to follow after a round, or None if this one does not lag.

    ``at_round`` holds the validation score of each trial after that round, this one's included.
    """
    ranked = sorted(at_round, key=lambda n: (at_round[n], -n))
    num = int(len(ranked) * population.quantile)
    if not num or number not in ranked[:num]:
        return None
    leader = ranked[-num:][int(draw.integers(num))]
    return leader if at_round[leader] > at_round[number] else None


def follow(
    population: Population,
    space: Space,
    leader: int,
    chosen: Mapping[str, Any],
    round_: int,
    draw: np.random.Generator,
) -> Follower:
    """The leader's values up to a round, and perturbed ones from the next round on."""
    latest, course = dict(chosen), dict[str, Any]()
    for dimension in space.dimensions:
        path = dimension.path
        if path not in chosen or isinstance(dimension.parameter, Choices):
            continue
        value = chosen[path]
        before = value["values"] if isinstance(value, dict) else [value]
        if not isinstance(value, dict) and not _moves_by_round(space, chosen, path):
            continue
        held = [before[min(i, len(before) - 1)] for i in range(round_ + 1)]
        latest[path] = _perturbed(population, dimension, before[-1], draw)
        course[path] = {"schedule": "stepwise", "values": [*held, latest[path]]}
    return Follower(leader, latest, course)


def _moves_by_round(space: Space, chosen: Mapping[str, Any], path: str) -> bool:
    """Whether the field takes a schedule over rounds."""
    try:
        space.config({**chosen, path: {"schedule": "stepwise", "values": [chosen[path]]}})
    except ConfigError:
        return False
    return True


def _perturbed(
    population: Population, dimension: Dimension, value: float, draw: np.random.Generator
) -> float:
    """The value times or divided by the factor, within the range; its mirror on a 1 - m scale."""
    parameter = dimension.parameter
    if isinstance(parameter, Choices):
        raise TypeError("choices are not perturbed")
    factor = population.factor if draw.integers(2) else 1 / population.factor
    mirrored = parameter.scale == "one_minus_log"
    moved = 1 - (1 - value) * factor if mirrored else value * factor
    if parameter.step:
        moved = parameter.low + round((moved - parameter.low) / parameter.step) * parameter.step
    moved = min(parameter.high, max(parameter.low, moved))
    return round(moved) if dimension.whole else float(f"{moved:.6g}")
