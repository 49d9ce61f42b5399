"""Ranking: what selectors order rows by, in place of the label's probability.

Legend: N rows, C classes.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from trainables.beliefs import Beliefs
from trainables.ensembles import entropy_confidence

Ranking = Literal["confidence", "margin", "entropy", "agreement"]
MOST_SOURCES = 100


def ranked(by: Ranking, beliefs: Beliefs) -> Beliefs:
    """The beliefs with the score that selectors order rows by as their confidence [N].

    'margin' is the probability of the best class less that of the second, 'entropy' is 1 - H / log
    C of the row's entropy H: both in [0, 1], the surer the higher. 'agreement' orders by the share
    of sources that predict the label, and among equal ones by its probability: (100 * share + p) /
    101, so that up to 100 sources never change places by p. Source: Yang et al., ST++, CVPR 2022,
    arXiv:2106.05095, as released, where the share is over earlier checkpoints; the order among
    equal ones is a house rule.

    Raises:
        ValueError: Only one source labelled.
    """
    if by == "confidence":
        return beliefs
    if by == "margin":
        return replace(beliefs, confidence=_margin(beliefs.log_probs))
    if by == "entropy":
        sure = entropy_confidence(beliefs.log_probs)
        return replace(beliefs, confidence=sure.astype(np.float32))
    if beliefs.doubt is None:
        raise ValueError("ranking by agreement needs beliefs of several sources")
    score = (MOST_SOURCES * beliefs.doubt.agreement.astype(np.float64) + beliefs.confidence) / (
        MOST_SOURCES + 1
    )
    return replace(beliefs, confidence=score.clip(0, 1).astype(np.float32))


def _margin(log_probs: np.ndarray) -> np.ndarray:
    """Probability of the best class less that of the second, float32 [N]; of one class, itself."""
    best = np.sort(np.exp(log_probs.astype(np.float64)), axis=1)[:, -2:]
    apart = best[:, -1] - (best[:, 0] if best.shape[1] > 1 else 0)
    return np.asarray(apart.clip(0, 1).astype(np.float32))
