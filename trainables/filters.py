"""Filters: which rows may be selected at all, by how sure the label sources are and how far apart.

A filter reads one row at a time, as the sources told it, before any calibrator. Rows that it holds
back count nowhere: not in the statistics that calibrators and selectors are fitted on, not in the
selection.

Legend: N rows.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainables.beliefs import Beliefs, Doubt
from trainables.schedules import number
from trainables.selectors.rules import Share
from trainables.spec import Spec


class Agreement(Spec):
    """At least this share of the sources predict the combined label."""

    kind: Literal["agreement"] = "agreement"
    needs_doubt: ClassVar[bool] = True
    share: Share = 1.0
    """Least share of the sources, in [0, 1]; 1 asks all of them."""

    def passes(self, beliefs: Beliefs) -> np.ndarray:
        """Rows that pass, bool [N]."""
        return np.asarray(_doubt(beliefs).agreement >= np.float32(number(self.share)) - 1e-6)


class Spread(Spec):
    """The label's probability varies less than this over the sources.

    Source: Rizve et al., In defense of pseudo-labeling (UPS), ICLR 2021, arXiv:2101.06329,
    equation 5.
    """

    kind: Literal["spread"] = "spread"
    needs_doubt: ClassVar[bool] = True
    most: Share = 0.05
    """The standard deviation must be below this."""

    def passes(self, beliefs: Beliefs) -> np.ndarray:
        """Rows that pass, bool [N]."""
        return np.asarray(_doubt(beliefs).spread < np.float32(number(self.most)))


class Margin(Spec):
    """The two best classes differ significantly over the sources.

    Source: Nguyen et al., Confident Sinkhorn allocation, arXiv:2206.05880, section 3.1.
    """

    kind: Literal["margin"] = "margin"
    needs_doubt: ClassVar[bool] = True

    def passes(self, beliefs: Beliefs) -> np.ndarray:
        """Rows that pass, bool [N]."""
        return np.asarray(_doubt(beliefs).margin > 0)


class Confidence(Spec):
    """The label is more probable than this, whatever calibrators make of it afterwards.

    Source: Nguyen et al., Confident Sinkhorn allocation, arXiv:2206.05880, algorithm 1.
    """

    kind: Literal["confidence"] = "confidence"
    needs_doubt: ClassVar[bool] = False
    above: Share = 0.5
    """The probability must exceed this."""

    def passes(self, beliefs: Beliefs) -> np.ndarray:
        """Rows that pass, bool [N]."""
        return np.asarray(beliefs.confidence > np.float32(number(self.above)))


Filter = Annotated[Agreement | Spread | Margin | Confidence, Field(discriminator="kind")]


def filtered(filters: Sequence[Filter], beliefs: Beliefs) -> Beliefs:
    """The beliefs with the rows that pass every filter marked eligible.

    Raises:
        ValueError: A filter reads what only several sources give, and there was one.
    """
    if not filters:
        return beliefs
    passed = np.all([each.passes(beliefs) for each in filters], axis=0)
    return replace(beliefs, eligible=passed)


def _doubt(beliefs: Beliefs) -> Doubt:
    if beliefs.doubt is None:
        raise ValueError("a filter asks how far sources are apart: give beliefs of several sources")
    return beliefs.doubt
