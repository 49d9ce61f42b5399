"""Cross pseudo supervision: two students of different seeds, each labelling for the other.

Source: Chen, Yuan, Zeng, Wang, CVPR 2021, arXiv:2106.01226, equations 1 to 4: hard labels of all
rows, no threshold, weight 1.5.
Departs from the paper: classification instead of segmentation; pool rows alone are labelled, weak
views for strong ones; the weight rises over the first 40 %; the first student is delivered.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm
from trainables.partners import Peer
from trainables.schedules import SigmoidRamp
from trainables.selectors.fixed import Everything

METHOD = Method(
    summary="Two students of different seeds, each labelling every row for the other.",
    source="Chen et al., CVPR 2021, arXiv:2106.01226",
    departs="classification; weak and strong views; a ramp",
    search=("consistency", "ramp", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            weight=SigmoidRamp(end=1.5, until=0.4, over="steps"), selector=Everything()
        ),
        partner=Peer(),
    ),
)
