"""FreeMatch: FixMatch whose thresholds are the running mean confidence, lowered for rare classes.

Source: Wang et al., FreeMatch, ICLR 2023, arXiv:2205.07246: self-adaptive thresholds (equations 4
to 6) and self-adaptive fairness (equation 11) with the weight 0.001 of the released settings.
Departs from the paper: as `fixmatch`; statistics remember with 0.99 instead of 0.999, since a round
has a thousand steps, and begin with the first batch instead of at 1/C.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm
from trainables.selectors.adaptive import FreeThreshold

METHOD = Method(
    summary="FixMatch at the running mean confidence, lowered for classes predicted less.",
    source="Wang et al., ICLR 2023, arXiv:2205.07246",
    departs="a shorter memory; fewer and smaller steps",
    search=("consistency", "memory", "balance", "teacher", "training"),
    recipe=one_round(ConsistencyTerm(selector=FreeThreshold(), fairness=0.001)),
)
