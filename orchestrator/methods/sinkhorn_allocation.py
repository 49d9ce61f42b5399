"""Sinkhorn label allocation: classes have upper bounds, a growing share of the rows gets labels.

Source: Tai, Bailis, Valiant, Sinkhorn label allocation, ICML 2021, arXiv:2102.08622, algorithm 1:
cost -log p with regularisation 100, the allocated share rising linearly, row sums as weights.
Departs from the paper: allocated once a round on at most 16,384 rows of the pool instead of in
every batch; the bounds are 1.1 times the labelled shares; trained as the house default is: mixup
0.5, an average of weights labels, warm starts.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.calibrators import Transport
from trainables.schedules import Linear
from trainables.selectors.fixed import Everything
from trainables.targets import TargetSpec
from trainables.weighting import Mass

METHOD = Method(
    summary="A growing share of rows, allocated under an upper bound for each class.",
    source="Tai et al., ICML 2021, arXiv:2102.08622",
    departs="allocated once a round",
    search=("transport", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        calibrators=(
            Transport(
                plan="allocation",
                target="labelled",
                slack=1.1,
                epsilon=0.01,
                share=Linear(start=0.25, end=1.0),
            ),
        ),
        selector=Everything(),
        targets=TargetSpec(kind="soft", weight=Mass()),
        policy=RoundPolicy(num_rounds=5, start="warm"),
    ),
)
