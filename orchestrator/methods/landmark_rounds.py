"""Landmarks by rounds of pseudo-labels: each point is trusted on its own, more of them each round.

Source: Curriculum Labeling, Cascante-Bonilla et al., AAAI 2021, arXiv:2001.06001.
Departs from the paper: shares are taken of each point instead of the whole pool, warm starts.
"""

from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.batches import BatchPlan
from trainables.landmarks.settings import LandmarkTraining
from trainables.schedules import Linear
from trainables.selectors.fixed import ClassShare
from trainables.student import StepCount
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Landmarks: rounds on a growing share of each point's surest pseudo-labels.",
    source="Curriculum Labeling, arXiv:2001.06001, point by point",
    departs="shares are taken of each point, and rounds begin with the teacher's weights",
    search=("landmarks", "landmark_rounds", "curriculum", "policy", "teacher"),
    recipe=LandmarkRecipe(
        training=LandmarkTraining(
            steps=StepCount(first_round=600, base=450),
            batch=BatchPlan(labelled=16, selected=16),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=ClassShare(share=Linear(start=0.4, end=0.9)),
        policy=RoundPolicy(num_rounds=3, start="warm", deliver="last", roll_back_below=0.05),
    ),
)
