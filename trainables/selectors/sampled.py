"""Selectors that are fitted on a sample of whole rows: they read more than confidences."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainables.schedules import number
from trainables.selectors.adaptive import as_stored
from trainables.selectors.component import first_component
from trainables.selectors.rules import Labelled, Outlook, Rule, Share, Statistics, make_rule
from trainables.selectors.separation import Mode, separate
from trainables.selectors.transductive import transductive_thresholds
from trainables.spec import Spec


class SeparationRule(Spec):
    """Rows on the reliable side of sureness and of how evenly the other classes share the rest.

    Source: Wang et al., CSL, arXiv:2509.16704, and CoVar, arXiv:2601.11670; see
    `trainables.selectors.separation`. Departs from the papers: fitted once a round on at most
    16,384 rows instead of on every batch; nothing below ``least_confidence`` is accepted.
    """

    kind: Literal["separation"] = "separation"
    mode: Mode = "neglog"
    """How the reliable side is told: mean log-confidence less lam times log, or plain, spread."""
    lam: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Weight of the spread."""
    least_confidence: Share = 0.3
    """Rows less confident than this are never accepted; the rule itself accepts uniform rows."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = True

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        floor = as_stored(np.full(pool.num_classes, number(self.least_confidence)))
        found = separate(pool.sampled_rows(), self.mode, self.lam)
        return make_rule(pool, seed, least=floor, separation=found)

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return False


class FirstComponent(Spec):
    """Rows on the sure side of the pool along its first principal component.

    The component is that of sureness and of how evenly the other classes share the rest, as in
    `SeparationRule`; see `trainables.selectors.component`. A selector of the house, without a
    source.
    """

    kind: Literal["first_component"] = "first_component"
    least_confidence: Share = 0.0
    """Rows less confident than this are never accepted."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = True

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        floor = as_stored(np.full(pool.num_classes, number(self.least_confidence)))
        return make_rule(pool, seed, least=floor, also=first_component(pool.sampled_rows()))

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return False


class TransductiveBound(Spec):
    """By class, the threshold that minimises a bound on the error of what is accepted.

    Source: Feofanov et al., Transductive bounds for the multi-class majority vote classifier, AAAI
    2019, and Amini et al., Self-training: a survey, arXiv:2202.12040; see
    `trainables.selectors.transductive`. Departs from the papers: fitted on at most 16,384 rows.
    """

    kind: Literal["transductive_bound"] = "transductive_bound"
    grid: Annotated[int, Field(ge=5, le=200)] = 50
    """Thresholds tried for each class."""
    least_rows: Annotated[int, Field(ge=1)] = 20
    """Classes with fewer predicted rows in the sample get none."""
    needs_labelled: ClassVar[bool] = False
    needs_sample: ClassVar[bool] = True

    def fit(self, pool: Statistics, labelled: Labelled, seed: int) -> Rule:
        del labelled
        votes = np.exp(pool.sampled_rows().astype(np.float64))
        least = transductive_thresholds(votes, grid=self.grid, least_rows=self.least_rows)
        return make_rule(pool, seed, least=as_stored(least))

    def accepts_all(self, outlook: Outlook) -> bool:
        del outlook
        return False
