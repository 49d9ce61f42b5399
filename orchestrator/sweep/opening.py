"""A sweep before anything starts: its space, its data, its identity and its folder."""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.store.store import Store
from orchestrator.sweep.record import sweep_id
from orchestrator.sweep.resources import trial_placement
from orchestrator.sweep.space import Space, resolve_space
from orchestrator.sweep.spec import SweepSpec


@dataclass(frozen=True)
class Sweep:
    """Everything that one sweep is played with."""

    name: str
    config: RunConfig
    """As the user has it."""
    space: Space
    """Over the user's config."""
    played: Space
    """The same over what trials are given: absolute paths and their placement."""
    data: Dataset
    folder: Path

    @property
    def spec(self) -> SweepSpec:
        return self.config.sweep or SweepSpec()


def open_sweep(config: RunConfig) -> Sweep:
    """A sweep before anything starts.

    Raises:
        ConfigError: The search space has faults; all of them are listed.
        DataError: The data set can't be read.
    """
    space, data, store = resolve_space(config), Dataset(config.data), Store(config.store)
    placement = trial_placement(config.placement)
    played = space.over(data=data.root, store=store.root, placement=placement)
    name = sweep_id(config, space, data)
    return Sweep(name, config, space, played, data, config.runs / name)
