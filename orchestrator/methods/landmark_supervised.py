"""Landmarks from labels alone: one round, no pool.

Source: baseline; heatmaps with a local soft-argmax are common use.
"""

from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.batches import BatchPlan
from trainables.landmarks.settings import LandmarkTraining
from trainables.student import StepCount
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Landmarks: labels alone, one round.",
    source="baseline",
    search=("landmarks", "teacher"),
    recipe=LandmarkRecipe(
        training=LandmarkTraining(
            steps=StepCount(first_round=1500),
            batch=BatchPlan(labelled=16, selected=0),
            teacher=ExponentialAverage(decay=0.99),
        ),
        policy=RoundPolicy(num_rounds=1, label_last=False),
    ),
)
