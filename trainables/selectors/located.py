"""Selectors that read where rows lie in feature space; of the stored table only."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainables.nearness import fit_closeness
from trainables.randomness import derive
from trainables.reward import fit_reward, pairs_of
from trainables.schedules import number
from trainables.selectors.adaptive import as_stored
from trainables.selectors.rules import (
    NEARLY_ALL,
    Labelled,
    Outlook,
    Rule,
    Share,
    Statistics,
    make_rule,
)
from trainables.spec import Spec


class Compactness(Spec):
    """Rows that are nearer to their class's prototype than to any other, by enough.

    A row's margin is its cosine to its own class's prototype less the largest to another. Rows of a
    margin of 0 or less never pass, nor does the share ``drop`` of each class with the smallest.
    Source: house selector after the in-class compactness and cross-class separation of Ali et al.,
    arXiv:2507.22075, whose formulas are not public.
    """

    kind: Literal["compactness"] = "compactness"
    drop: Share = 0.4
    """Share of each predicted class, that with the smallest margins, to hold back."""
    trim: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of a class's rows, the farthest, that its prototype is made without."""
    least_confidence: Share = 0.0
    """Rows less confident than this are never accepted."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        floor = as_stored(np.full(pool.num_classes, number(self.least_confidence)))
        found = fit_closeness(pool.sampled(), number(self.drop), self.trim)
        return make_rule(pool, seed, least=floor, also=found)

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return False


class ExpectedReward(Spec):
    """Rows whose label a small network expects to be right, as much as the mean row's or more.

    The network learns from out-of-fold labelled rows; see `trainables.reward`. Source: house
    selector after Li et al., SemiReward, ICLR 2024, arXiv:2310.03013: a rewarder of features and
    label, its target the similarity of the label to the true one, the mean reward as the bound.
    """

    kind: Literal["reward"] = "reward"
    drop: Share | None = None
    """Share of the pool, that with the least reward, to hold back; None: all below the mean."""
    wrong: Annotated[int, Field(ge=1, le=20)] = 2
    """Wrong labels drawn for each labelled row, by its out-of-fold probabilities."""
    hidden: Annotated[int, Field(ge=2, le=512)] = 32
    """Width of the network's one hidden layer."""
    steps: Annotated[int, Field(ge=1, le=10000)] = 400
    """Steps over all pairs together."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Step size of Adam."""
    needs_labelled: ClassVar[bool] = True
    needs_sample: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        if labelled.beliefs is None or labelled.labels is None or labelled.nearness is None:
            raise ValueError("selector reward needs out-of-fold predictions with their nearness")
        pairs = pairs_of(
            labelled.beliefs,
            labelled.nearness.cosines,
            labelled.labels,
            self.wrong,
            seed=derive(seed, "wrong"),
        )
        found = fit_reward(
            pairs,
            labelled.nearness.anchors,
            hidden=self.hidden,
            steps=self.steps,
            learning_rate=self.learning_rate,
            seed=derive(seed, "reward"),
        )
        drop = None if self.drop is None else number(self.drop)
        return make_rule(pool, seed, also=found.bounded(pool.sampled(), drop))

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return self.drop is not None and number(self.drop) <= 1 - NEARLY_ALL
