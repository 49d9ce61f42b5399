"""What a sweep is asked to do: the `sweep` block of a config."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from trainables.spec import Spec

Sampler = Literal["tpe", "gp", "cma_es", "nsga2", "random", "grid"]
ObjectiveName = Literal["score", "seconds", "pseudo_labels"]
TRIALS = 20
MAXIMISED: frozenset[str] = frozenset({"score"})
"""Objectives that are better when larger; the others are better when smaller."""


class Pruning(Spec):
    """Which trials are ended early.

    A trial is judged after a round by its best validation so far, carried on along its last rise:
    learning curves of self-training are not monotone, so one bad round ends nothing.
    """

    rule: Literal["none", "median", "percentile", "successive_halving", "hyperband"] = "median"
    """Where the bar lies: at the median or another percentile of the other trials in the same
    round, or at the top 1/reduction of them in rounds 1, reduction, reduction^2, ..."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Rule percentile: the bar lies below this share of the other trials, the best first."""
    reduction: Annotated[int, Field(ge=2, le=10)] = 3
    """Rules successive_halving and hyperband: one in so many trials goes on at each rung."""
    first_round: Annotated[int, Field(ge=1)] = 1
    """First round after which a trial may end; round 1 is the first that learns from the pool."""
    startup_trials: Annotated[int, Field(ge=1)] = 4
    """Other trials that must have reached a round before the bar exists."""
    patience_rounds: Annotated[int, Field(ge=1)] = 1
    """Rounds in a row that a trial must stay below the bar."""
    collapse_class_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """A selection with more than this share in one class ends the trial; None takes the middle
    between the largest class's share of the labelled rows and 1."""
    collapse_fall: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Validation this far below that of round 0 ends the trial."""


class Screening(Spec):
    """Candidates are judged on stored predictions before any of them is trained."""

    keep: Annotated[int, Field(ge=1)]
    """Candidates that become trials: the best."""
    candidates: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Candidates to draw from the search space."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.keep > self.candidates:
            raise ValueError(f"keep is {self.keep}, more than the {self.candidates} candidates")
        return self


class Population(Spec):
    """Trials that lag behind take over the course of better ones, with perturbed values."""

    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Share of the trials that is replaced after a round, and share that is followed."""
    factor: Annotated[float, Field(gt=1, le=10)] = 1.25
    """Values are multiplied or divided by this."""


class SweepSpec(Spec):
    """How many trials, over what, judged by what."""

    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Trials to play, the method's own settings first; a later command may ask for more. None: 20,
    or all points of a grid."""
    most_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which no trial starts and running ones stop after their round; None: no end."""
    concurrent: Annotated[int, Field(ge=1)] | None = None
    """Trials at a time; None takes as many as the cluster has room for."""
    sampler: Sampler = "tpe"
    """Who proposes: TPE, Gaussian process, CMA-ES, NSGA-II, random, or every point of a grid."""
    sampler_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the proposals; the recipe's seed belongs to the trials."""
    objectives: Annotated[tuple[ObjectiveName, ...], Field(min_length=1, max_length=3)] = ("score",)
    """What makes a trial good: validation score of the delivered round, seconds of work, labels
    taken from the pool. Test scores decide nothing."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] | None = None
    """Seeds that every trial plays and is averaged over; None plays the recipe's own."""
    fragments: tuple[str, ...] | None = None
    """Fragments of `search_spaces/` to search; None takes those that the method names."""
    space: dict[str, dict[str, Any] | None] = {}
    """By path: a range {low, high, scale, step} or {choices}, each with an optional `when`; laid
    over the fragments' entries. Null takes an entry out."""
    pruning: Pruning | None = None
    """Which trials end early; None takes the median rule where score is the only objective."""
    population: Population | None = None
    """Population-based training over rounds, in the place of a pruning rule; None: none."""
    screen: Screening | None = None
    """Judge many candidates on stored predictions first; None trains what the sampler proposes."""

    @property
    def num_trials(self) -> int:
        """Trials to play where no grid says how many."""
        return self.trials or TRIALS

    @property
    def pruner(self) -> Pruning:
        """The pruning that is given, or the default one."""
        return self.pruning or Pruning()

    @property
    def follows_score(self) -> bool:
        """Whether score after each round says how good a trial is."""
        return self.objectives == ("score",)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        several, only = len(self.objectives) > 1, self.objectives == ("score",)
        if len(set(self.objectives)) < len(self.objectives):
            faults.append("objectives names one twice")
        if not only and self.pruning is not None and self.pruning.rule != "none":
            faults.append("pruning needs score as only objective: set pruning.rule to none")
        if self.population is not None and not only:
            faults.append("population needs score as only objective")
        if self.population is not None and self.pruning is not None:
            faults.append("population takes the place of pruning: leave one of them out")
        if several and self.sampler == "cma_es":
            faults.append("sampler cma_es takes one objective; nsga2, tpe and gp take several")
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds)):
            faults.append("seeds must name at least one seed and none twice")
        if self.screen is not None and self.screen.keep >= self.num_trials:
            faults.append(
                f"screen.keep is {self.screen.keep}; the first of {self.num_trials} trials plays "
                "the method's own settings: ask for more trials or keep fewer"
            )
        if self.screen is not None and self.sampler == "grid":
            faults.append("a grid plays every point, so there is nothing to screen")
        if faults:
            raise ValueError("; ".join(faults))
        return self
