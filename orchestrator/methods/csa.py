"""Confident Sinkhorn allocation: rows on which models agree significantly, allocated to classes.

Source: Nguyen et al., Confident Sinkhorn allocation, arXiv:2206.05880, algorithm 1: Welch's test of
the two best classes over several models, Sinkhorn allocation near the labelled shares, a confidence
above 0.5.
Departs from the paper: five networks instead of twenty boosted trees, trained as the house default
is (mixup 0.5, weight averages label, warm starts); the allocation is balanced Sinkhorn at epsilon
0.1 and a cost of -log p instead of 1 - p, without bounds of 0.9 to 1.1 of a class; rows that fail a
test are left out before the allocation; accepted rows are chosen anew each round, without a quota;
three rounds instead of five.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.calibrators import Transport
from trainables.filters import Confidence, Margin
from trainables.selectors.fixed import Everything
from trainables.student import StepCount

METHOD = Method(
    summary="Rows on which five models agree significantly, allocated to classes.",
    source="Nguyen et al., arXiv:2206.05880",
    departs="five networks; balanced Sinkhorn; no quota; three rounds",
    search=("ensemble", "transport", "filters", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(students=5),
        steps=StepCount(first_round=300, base=600),
        filters=(Margin(), Confidence(above=0.5)),
        calibrators=(Transport(plan="balanced", target="labelled"),),
        selector=Everything(),
        policy=RoundPolicy(num_rounds=3, start="warm"),
    ),
)
