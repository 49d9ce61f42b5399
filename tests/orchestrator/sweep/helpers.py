"""What tests of sweeps share: small spaces over a config, and rounds of trials made by hand."""

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.loading import build_config
from orchestrator.sweep.space import Space, resolve_space
from orchestrator.sweep.trial import SeedRound, TrialRound

SHARE = "recipe.selector.share"
RATE = "recipe.training.optimiser.learning_rate"
KIND = "recipe.selector.kind"
THRESHOLD = "recipe.selector.threshold"
LEAST = "recipe.selector.least_confidence"
SELECTED = "recipe.training.batch.selected"

TWO: dict[str, Any] = {
    SHARE: {"low": 0.1, "high": 0.9},
    RATE: {"low": 0.01, "high": 0.3, "scale": "log"},
}
"""A space of two numbers."""


def config_of(
    space: Mapping[str, Any],
    *overrides: str,
    fragments: tuple[str, ...] | None = (),
    **sweep: Any,
) -> RunConfig:
    """A config with this space; no data set is read. Only the given entries unless told."""
    tree = {
        "name": "quick",
        "data": "/nowhere",
        "method": "class_balanced_curriculum",
        "recipe": {"selector": {"share": 0.5}, "policy": {"num_rounds": 5}},
        "sweep": {"space": dict(space), "fragments": fragments, **sweep},
    }
    return build_config(tree, overrides)


def space_of(space: Mapping[str, Any], *overrides: str, **sweep: Any) -> Space:
    """The resolved space of such a config."""
    return resolve_space(config_of(space, *overrides, **sweep))


def paths(space: Space) -> list[str]:
    """What a space searches."""
    return [dimension.path for dimension in space.dimensions]


def faults_of(space: Mapping[str, Any], *overrides: str, **sweep: Any) -> list[str]:
    """The lines with which such a space is refused."""
    with pytest.raises(ConfigError) as caught:
        space_of(space, *overrides, **sweep)
    return [line.strip() for line in str(caught.value).splitlines()]


def played(
    round_: int,
    *scores: float,
    finished: bool = False,
    class_rows: tuple[int, ...] = (50, 50),
    best: float | None = None,
    work_s: float = 2.0,
    pseudo_labels: int = 100,
) -> TrialRound:
    """A round of a trial with one seed for each score."""
    seeds = tuple(
        SeedRound(
            seed=seed,
            score=score,
            delivered=score if best is None else best,
            test=score - 0.01,
            best_round=round_,
            pseudo_labels=pseudo_labels,
            class_rows=class_rows,
            work_s=work_s,
            stopped="all rounds were played" if finished else None,
        )
        for seed, score in enumerate(scores)
    )
    return TrialRound(round=round_, seeds=seeds, finished=finished)
