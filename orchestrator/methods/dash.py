"""Dash: FixMatch on rows whose loss against their own label is under a falling bound.

Source: Xu et al., Dash, ICML 2021, section 4: the bound starts at the mean labelled loss and falls
geometrically to 0.05.
Departs from the paper: as `fixmatch`; the mean loss is that of the labelled rows of the batch
instead of one taken once after a warm-up; the bound's factor falls by half a cosine; labels are
hard from the start, not soft until the bound is at its least.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm
from trainables.schedules import Cosine
from trainables.selectors.adaptive import LossBound

METHOD = Method(
    summary="FixMatch on rows whose loss is under a bound that falls from the labelled loss.",
    source="Xu et al., ICML 2021",
    departs="the labelled loss is the batch's; hard throughout; fewer and smaller steps",
    search=("consistency", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(selector=LossBound(scale=Cosine(start=1.0, end=0.0, over="steps")))
    ),
)
