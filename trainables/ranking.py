"""Ranking: what selectors order rows by, in place of the label's probability.

Legend: N rows.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from trainables.beliefs import Beliefs

Ranking = Literal["confidence", "agreement"]
MOST_SOURCES = 100


def ranked(by: Ranking, beliefs: Beliefs) -> Beliefs:
    """The beliefs with the score that selectors order rows by as their confidence [N].

    'agreement' orders by the share of sources that predict the label, and among equal ones by its
    probability: (100 * share + p) / 101, so that up to 100 sources never change places by p.
    Source: Yang et al., ST++, CVPR 2022, arXiv:2106.05095, as released, where the share is over
    earlier checkpoints; the order among equal ones is a house rule.

    Raises:
        ValueError: Only one source labelled.
    """
    if by == "confidence":
        return beliefs
    if beliefs.doubt is None:
        raise ValueError("ranking by agreement needs beliefs of several sources")
    score = (MOST_SOURCES * beliefs.doubt.agreement.astype(np.float64) + beliefs.confidence) / (
        MOST_SOURCES + 1
    )
    return replace(beliefs, confidence=score.clip(0, 1).astype(np.float32))
