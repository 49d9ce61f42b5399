"""Confidence vote: sources weighed by their certainty, remembered over rounds, the surest quarter.

Source: after SPARSE (Manni et al., 2025): sharpened beliefs weighed by 1 - H / log C, 0.7 of their
vote beside 0.3 of the label from before, which the released code means to keep and never uses, the
batch's 0.75 quantile.
Departs from the paper: without the generator; sources are two students; the quantile is over the
pool and grows, the memory is over rounds (0.3 of the label before, once a round, where a row's own
average over steps has 0.99), and every step trains on both kinds of rows instead of every fifth
epoch on pseudo-labels; trained as the house default is (mixup 0.5, weight averages, warm starts).
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.combining import ConfidenceVote
from trainables.schedules import Linear
from trainables.selectors.fixed import TopShare
from trainables.student import StepCount

METHOD = Method(
    summary="Two students weighed by their certainty, with a memory, the surest first.",
    source="after SPARSE, Manni et al. 2025",
    departs="no generator; over rounds",
    search=("ensemble", "labelling", "curriculum", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(students=2, remember=0.3, combine=ConfidenceVote()),
        steps=StepCount(first_round=400, base=600),
        selector=TopShare(share=Linear(start=0.25, end=1.0)),
        policy=RoundPolicy(num_rounds=4, start="warm"),
    ),
)
