"""Class-balanced curriculum: a growing share of each predicted class, a restart every round.

Source: house variant of Curriculum Labeling (arXiv:2001.06001) with the percentile taken within
each predicted class, as class-balanced self-training does (Zou et al., ECCV 2018, arXiv:1810.07911,
section 3.2).
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.schedules import Stepwise
from trainables.selectors.fixed import ClassShare
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="A growing share of each predicted class, a restart every round.",
    source="house variant of arXiv:2001.06001, class shares as in arXiv:1810.07911",
    search=(
        "curriculum",
        "selection",
        "calibration",
        "labelling",
        "policy",
        "rounds",
        "teacher",
        "training",
    ),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=ClassShare(share=Stepwise(values=(0.2, 0.4, 0.6, 0.8, 1.0))),
        policy=RoundPolicy(num_rounds=6, start="restart", deliver="best"),
    ),
)
