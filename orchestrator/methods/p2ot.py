"""P2OT: each round a larger share of the pool's mass, allocated by partial optimal transport.

Source: Zhang et al., P2OT, ICLR 2024, arXiv:2401.09266, sections 3.2 and 3.3: relaxed balance of
the classes, epsilon 0.1, the labelled share rising from 0.1 to 1 in the shape of a sigmoid, every
row weighted by its mass.
Departs from the paper: it clusters without labels, here a labelled set trains along; the plan is
made once a round on at most 16,384 rows of the pool; the share is 0.11, 0.3, 0.75 and 1 in four
rounds, earlier up than the paper's ramp (0.11, 0.20, 0.62, 1); trained as the house default is:
mixup 0.5, an average of weights labels, warm starts.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.calibrators import Transport
from trainables.schedules import Stepwise
from trainables.selectors.fixed import Everything
from trainables.targets import TargetSpec
from trainables.weighting import Mass

METHOD = Method(
    summary="A growing share of the pool's mass, allocated to classes by transport.",
    source="Zhang et al., ICLR 2024, arXiv:2401.09266",
    departs="labels train along; one plan a round",
    search=("transport", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        calibrators=(Transport(plan="partial", share=Stepwise(values=(0.11, 0.3, 0.75, 1.0))),),
        selector=Everything(),
        targets=TargetSpec(kind="soft", weight=Mass()),
        policy=RoundPolicy(num_rounds=5, start="warm"),
    ),
)
