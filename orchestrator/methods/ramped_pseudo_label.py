"""Pseudo-Label as first published: every row's own label, at a weight that rises with training.

Source: Lee, Pseudo-Label, ICML workshop 2013, equations 15 and 16: labels of all rows by the
network itself, no threshold, the weight rising linearly to 3 between the steps T1 and T2.
Departs from the paper: as `fixmatch`; labels come from one weak view and teach another one; the
weight rises from the first step to 60 % of the round.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.augment import WEAK
from trainables.objective import ConsistencyTerm
from trainables.schedules import Linear
from trainables.selectors.fixed import Everything

METHOD = Method(
    summary="Every row's own label at a weight that rises with training, without a threshold.",
    source="Lee, ICML workshop 2013",
    departs="two weak views; a ramp from the first step",
    search=("consistency", "ramp", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            weight=Linear(start=0.0, end=3.0, until=0.6, over="steps"), selector=Everything()
        ),
        strong=WEAK,
    ),
)
