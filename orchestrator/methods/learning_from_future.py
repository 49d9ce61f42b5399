"""Learning from future, deep: the teacher first follows three steps that are then taken back.

Source: Du et al., Learning from future, NeurIPS 2022, arXiv:2209.07042, FST-D, three steps ahead.
Departs from the paper: classification, with a threshold of 0.95 on each row instead of one weight
for the share above 0.968; the optimiser's state is put back with the weights; an average of 0.99
instead of 0.999; 400 steps, since each costs four.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm
from trainables.partners import LookAhead
from trainables.student import StepCount

METHOD = Method(
    summary="The teacher follows three steps ahead, then labels the real one.",
    source="Du et al., NeurIPS 2022, arXiv:2209.07042",
    departs="classification, a threshold on each row; fewer steps",
    search=("look_ahead", "consistency", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(labels_from="teacher"),
        steps=StepCount(first_round=400),
        look_ahead=LookAhead(kind="deep", steps=3),
    ),
)
