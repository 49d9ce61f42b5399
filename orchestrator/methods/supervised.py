"""Supervised: one round on the labelled rows alone; what every other method is compared with.

Source: house baseline.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.student import TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="One round on the labelled rows alone.",
    source="house baseline",
    recipe=Recipe(
        training=TrainingSpec(
            batch=BatchPlan(labelled=64, selected=0), teacher=ExponentialAverage(decay=0.99)
        ),
        policy=RoundPolicy(num_rounds=1, label_last=False),
    ),
)
