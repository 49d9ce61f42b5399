"""The plan of a sweep: what its trials would ask for, share and find, before anything starts.

A sampler that learns can't be foretold, so the trials are the defaults and random draws from the
space, or the points of the grid; addresses tell which of their steps are the same.
"""

from itertools import islice

from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.plan import PlannedStep, plan_run
from orchestrator.store.store import Store
from orchestrator.sweep.space import Space, resolve_space
from orchestrator.sweep.spec import SweepSpec
from orchestrator.sweep.study import draw
from trainables.spec import Spec


class SweepPlan(Spec):
    """What a sweep would ask for."""

    trials: int
    """Trials, each with all its seeds."""
    seeds: int
    """Seeds of each trial."""
    asked: int
    """Steps of all trials."""
    shared: int
    """Of these, steps that another trial asks for as well."""
    in_store: int
    """Distinct steps that the store has."""
    to_compute: int
    """Distinct steps that nobody has computed."""
    most_steps: int
    """Most optimiser steps in the steps to compute."""
    most_steps_alone: int
    """The same if every trial computed everything itself."""
    rows: int
    """Pool rows to label in the steps to compute."""
    rows_alone: int
    """The same if every trial computed everything itself."""

    def lines(self) -> list[str]:
        """The plan in words."""
        work = self.most_steps / self.most_steps_alone if self.most_steps_alone else 0.0
        seeds = f" of {self.seeds} seeds each" if self.seeds > 1 else ""
        return [
            f"{self.trials:,} trials{seeds} ask for {self.asked:,} steps: {self.shared:,} are "
            f"shared, {self.in_store:,} are in the store, {self.to_compute:,} are to compute",
            f"at most {self.most_steps:,} optimiser steps instead of {self.most_steps_alone:,} "
            f"({work:.0%}), and {self.rows:,} pool rows to label instead of {self.rows_alone:,}",
            "Trials are drawn at random here; the sampler, pruning and screening change them.",
        ]


def plan_sweep(config: RunConfig, data: Dataset, store: Store) -> SweepPlan:
    """What a sweep would ask for; computes nothing.

    Raises:
        ConfigError: The search space has faults; all of them are listed.
    """
    spec, space = config.sweep or SweepSpec(), resolve_space(config)
    distinct: dict[str, PlannedStep] = {}
    asked, steps_alone, rows_alone = 0, 0, 0
    trials = _trials(space, spec)
    for trial in trials:
        for seed in spec.seeds or (trial.recipe.seed,):
            recipe = trial.recipe.model_copy(update={"seed": seed})
            lines = plan_run(trial.model_copy(update={"recipe": recipe}), data, store)
            distinct |= {f"{line.kind}/{line.address}": line for line in lines}
            asked += len(lines)
            steps_alone += sum(line.most_steps for line in lines)
            rows_alone += sum(line.rows for line in lines)
    missing = [line for line in distinct.values() if not line.in_store]
    return SweepPlan(
        trials=len(trials),
        seeds=len(spec.seeds or (0,)),
        asked=asked,
        shared=asked - len(distinct),
        in_store=len(distinct) - len(missing),
        to_compute=len(missing),
        most_steps=sum(line.most_steps for line in missing),
        most_steps_alone=steps_alone,
        rows=sum(line.rows for line in missing),
        rows_alone=rows_alone,
    )


def _trials(space: Space, spec: SweepSpec) -> list[RunConfig]:
    """As many trials as the sweep would play, the defaults first; misfits are left out."""
    defaults = space.defaults()
    if spec.sampler == "grid":
        points = [point for point in space.grid() if point != defaults]
        wanted = spec.trials - 1 if spec.trials is not None else len(points)
        drawn = list(islice(points, wanted))
    else:
        drawn = list(draw(space, spec.sampler_seed, spec.num_trials - 1))
    found = []
    for chosen in [defaults, *drawn]:
        try:
            found.append(space.config(chosen))
        except ConfigError:
            continue  # the sweep itself records it as a failed trial
    return found
