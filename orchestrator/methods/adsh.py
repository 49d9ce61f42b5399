"""ADSH: FixMatch with one kept share for all classes, that of the most frequent one.

Source: Guo and Li, Class-imbalanced semi-supervised learning with adaptive thresholding, ICML 2022:
the share of the most frequent class above 0.95 is the share kept of every class.
Departs from the paper: as `fixmatch`; shares are of the last hundred batches instead of an epoch.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm
from trainables.selectors.adaptive import EqualRate

METHOD = Method(
    summary="FixMatch that keeps of every class the share kept of the most frequent one.",
    source="Guo and Li, ICML 2022",
    departs="shares of recent batches; fewer and smaller steps",
    search=("consistency", "memory", "teacher", "training"),
    recipe=one_round(ConsistencyTerm(selector=EqualRate())),
)
