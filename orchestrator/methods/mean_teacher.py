"""Mean Teacher: the student's probabilities on one view follow its weight average's on another.

Source: Tarvainen and Valpola, Mean teachers, NeurIPS 2017, arXiv:1703.01780, section 2: squared
error of probabilities over C, weight 100 behind a sigmoid ramp, an EMA teacher.
Departs from the paper: as `fixmatch`; the teacher sees the weak view in evaluation mode; decay
0.99; the weight is 50 and ramps over 40 % of the round.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.losses import SquaredError
from trainables.objective import ConsistencyTerm
from trainables.schedules import SigmoidRamp
from trainables.selectors.fixed import Everything
from trainables.targets import TargetSpec

METHOD = Method(
    summary="Strong views follow the probabilities of the weight average on weak views.",
    source="Tarvainen and Valpola, NeurIPS 2017, arXiv:1703.01780",
    departs="weak and strong views; fewer and smaller steps",
    search=("consistency", "squared_error", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            weight=SigmoidRamp(end=50.0, until=0.4, over="steps"),
            labels_from="teacher",
            selector=Everything(),
            targets=TargetSpec(kind="soft"),
            loss=SquaredError(),
        )
    ),
)
