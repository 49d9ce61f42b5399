"""Landmarks with one threshold: points whose heatmap is sure enough are trained on.

Source: Lee, Pseudo-Label, ICML workshop 2013, with the heatmap's mass at its peak in the place of
the probability. Departs from the paper: labels are made between rounds, not at every step.
"""

from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.batches import BatchPlan
from trainables.landmarks.settings import LandmarkTraining
from trainables.selectors.fixed import Threshold
from trainables.student import StepCount
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Landmarks: rounds on points above one threshold.",
    source="Lee, Pseudo-Label, ICML workshop 2013, point by point",
    departs="labels are made between rounds",
    search=("landmarks", "landmark_rounds", "selection", "policy", "teacher"),
    recipe=LandmarkRecipe(
        training=LandmarkTraining(
            steps=StepCount(first_round=600, base=450),
            batch=BatchPlan(labelled=16, selected=16),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=Threshold(threshold=0.6),
        policy=RoundPolicy(num_rounds=3, start="restart", deliver="best"),
    ),
)
