"""What share of the pool a selector's settings mean to accept, whatever is believed about it.

Legend: C classes.
"""

from collections.abc import Sequence

import numpy as np

from trainables.schedules import number
from trainables.selectors.adaptive import (
    ClassRate,
    EqualRate,
    FlexThreshold,
    FreeThreshold,
    RelativeThreshold,
    class_rates,
)
from trainables.selectors.fixed import (
    ClassShare,
    ClassTopK,
    EvenShare,
    Everything,
    Threshold,
    TopShare,
)
from trainables.selectors.library import Selector

NEARLY_ALL = 0.99
"""Share of the pool from which nearly all of it is accepted."""


def accepts_all(
    selector: Selector, class_rows: Sequence[int], pool_rows: int, least: float | None = None
) -> bool:
    """Whether these settings, without schedules, mean to accept nearly the whole pool.

    ``class_rows`` are labelled rows by class [C]. Bounds on the confidence mean so only where every
    row reaches them: at ``least`` and below, which is 1 / C if left out.
    """
    least = 1 / max(1, len(class_rows)) if least is None else least
    match selector:
        case Everything():
            return True
        case TopShare() | ClassShare() | EvenShare():
            return number(selector.share) >= NEARLY_ALL
        case ClassTopK():
            return number(selector.k) * len(class_rows) >= NEARLY_ALL * pool_rows
        case ClassRate():
            rates = class_rates(np.array(class_rows), number(selector.alpha))
            return bool(rates.min() >= NEARLY_ALL)
        case Threshold() | EqualRate() | FlexThreshold():
            return number(selector.threshold) <= least
        case RelativeThreshold():
            return number(selector.share) <= least
        case FreeThreshold():
            return number(selector.ceiling) <= least
    return False
