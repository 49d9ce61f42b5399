"""Row maps: what calibrators become once they are fitted; each maps a row on its own.

Legend: N rows, C classes.
"""

from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Protocol

import numpy as np

from trainables.beliefs import Beliefs
from trainables.transport import Refinery, Solved


def missing_mass(log_probs: np.ndarray) -> np.ndarray:
    """Log of what each row sums to, float64 [N, 1]; exactly 0 where a sink took nothing from it."""
    with np.errstate(invalid="ignore"):  # rows of NaN miss nothing
        whole = np.logaddexp.reduce(log_probs.astype(np.float64), axis=1, keepdims=True)
        return np.asarray(np.where((whole < -1e-4) & (whole > -np.inf), whole, 0.0))


class RowMap(Protocol):
    """A map of each row on its own; mass that a row misses stays away from it."""

    def applied(self, log_probs: np.ndarray, rows: Beliefs | None = None) -> np.ndarray:
        """Mapped log-probabilities float32 [N, C].

        ``rows`` are the beliefs that they were part of, for maps that read ids and features.
        """

    def then(self, after: "RowMap") -> "RowMap":
        """This map followed by another one."""


@dataclass(frozen=True)
class Tilt:
    """log p' = power * log p + shift, normalised."""

    power: float = 1.0
    shift: tuple[float, ...] = ()
    """One for each class [C]; empty means zero."""
    sink: float | None = None
    """Log-mass of a further class 'not now' that stands for nothing: what it takes is missing from
    the row's sum. None: there is none, and rows sum to 1."""
    least: float | None = None
    """Log-probabilities count as at least this; None: as what they are."""
    solved: Solved | None = field(default=None, compare=False)
    """How it was found, if by transport."""
    temperature: float | None = field(default=None, compare=False)
    """What logits were divided by, if that was fitted."""
    prior: tuple[float, ...] = field(default=(), compare=False)
    """The pool's class balance [C], where it was estimated."""

    def then(self, after: RowMap) -> RowMap:
        """This tilt followed by another map; two tilts are one."""
        if self == Tilt() and self.temperature is None:
            return after
        apart = (self.sink, *((after.sink, after.least) if isinstance(after, Tilt) else ()))
        if not isinstance(after, Tilt) or any(value is not None for value in apart):
            return InTurn((self, *maps_of(after)))
        mine = [after.power * value for value in self.shift]
        theirs = after.shift or (0.0,) * len(mine)
        shift = tuple(a + b for a, b in zip(mine, theirs, strict=True)) if mine else after.shift
        return Tilt(
            self.power * after.power,
            shift,
            least=self.least,
            solved=self.solved,
            temperature=self.temperature if after.temperature is None else after.temperature,
            prior=after.prior or self.prior,
        )

    def applied(self, log_probs: np.ndarray, rows: Beliefs | None = None) -> np.ndarray:
        """Tilted log-probabilities float32 [N, C]; the same bits if the tilt does nothing."""
        del rows
        if self == Tilt():
            return log_probs
        mass = missing_mass(log_probs)
        told = log_probs.astype(np.float64) - mass
        tilted = self.power * (told if self.least is None else np.maximum(told, self.least))
        if self.shift:
            tilted = tilted + np.array(self.shift)
        with np.errstate(invalid="ignore"):  # rows of NaN stay so and are counted out later
            whole = np.logaddexp.reduce(tilted, axis=1, keepdims=True)
            tilted -= whole if self.sink is None else np.logaddexp(whole, self.sink)
        return np.asarray((tilted + mass).astype(np.float32))


@dataclass(frozen=True)
class InTurn:
    """Maps that are no single tilt together, one after the other."""

    maps: tuple[RowMap, ...]

    def then(self, after: RowMap) -> RowMap:
        """These maps followed by another one."""
        return InTurn((*self.maps[:-1], *maps_of(self.maps[-1].then(after))))

    def applied(self, log_probs: np.ndarray, rows: Beliefs | None = None) -> np.ndarray:
        """Mapped log-probabilities float32 [N, C]."""
        return reduce(lambda logs, each: each.applied(logs, rows), self.maps, log_probs)


@dataclass(frozen=True)
class Refined:
    """Labels refined towards a class balance; see `trainables.transport.refine`."""

    refinery: Refinery
    prior: tuple[float, ...] = field(default=(), compare=False)
    """The pool's class balance [C], where it was estimated."""

    def then(self, after: RowMap) -> RowMap:
        """This map followed by another one."""
        return InTurn((self, *maps_of(after)))

    def applied(self, log_probs: np.ndarray, rows: Beliefs | None = None) -> np.ndarray:
        """Mapped log-probabilities float32 [N, C]; rows of NaN stay so."""
        del rows
        mass = missing_mass(log_probs)
        with np.errstate(divide="ignore"):
            logs = np.log(self.refinery.labels(log_probs - mass))
        return np.asarray((logs + mass).astype(np.float32))


def maps_of(whole: RowMap) -> tuple[RowMap, ...]:
    """The maps that a map is made of."""
    return whole.maps if isinstance(whole, InTurn) else (whole,)


def solved_of(whole: RowMap) -> Solved | None:
    """How the last transport among these maps was found; None if there is none."""
    fitted = [m.refinery if isinstance(m, Refined) else m for m in reversed(maps_of(whole))]
    told = (each.solved for each in fitted if isinstance(each, Tilt | Refinery))
    return next((each for each in told if each is not None), None)


def temperature_of(whole: RowMap) -> float | None:
    """The last temperature that was fitted among these maps; None if there is none."""
    told = (m.temperature for m in reversed(maps_of(whole)) if isinstance(m, Tilt))
    return next((each for each in told if each is not None), None)


def prior_of(whole: RowMap) -> tuple[float, ...]:
    """The last estimate of the pool's class balance [C] among these maps; empty without one."""
    told = (m.prior for m in reversed(maps_of(whole)) if isinstance(m, Tilt | Refined))
    return next((each for each in told if each), ())


def calibrated(by: RowMap, beliefs: Beliefs) -> Beliefs:
    """The beliefs behind a map of their rows; the same object if it does nothing."""
    if by == Tilt():
        return beliefs
    mapped = Beliefs.of_log_probs(beliefs.example_ids, by.applied(beliefs.log_probs, beliefs))
    return replace(
        mapped, doubt=beliefs.doubt, eligible=beliefs.eligible, features=beliefs.features
    )
