"""Landmarks by distillation of data: the student learns what views of a frame agree about.

Source: Radosavovic et al., Data Distillation: Towards Omni-Supervised Learning, CVPR 2018,
arXiv:1712.04440. Departs from the paper: the label is the median of the views' points instead of
the heatmaps' mean; points are kept by how near those of the views are instead of by score; every
view is a random one, the same for all frames, instead of scales and mirror images; the student goes
on from the teacher's weights, for a new one does not get there in so few steps.
"""

from orchestrator.landmark_recipe import LandmarkLabelling, LandmarkRecipe
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy, ScoringSpec
from trainables.batches import BatchPlan
from trainables.landmarks.settings import LandmarkTraining
from trainables.selectors.fixed import ClassShare
from trainables.student import StepCount
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Landmarks: the student learns the points that several views agree about.",
    source="Data Distillation, Radosavovic et al., CVPR 2018, arXiv:1712.04440",
    departs="median of points, not mean of heatmaps; kept by the views' agreement; warm starts",
    search=("landmarks", "landmark_rounds", "views", "curriculum", "policy", "teacher"),
    recipe=LandmarkRecipe(
        training=LandmarkTraining(
            steps=StepCount(first_round=600, base=1000),
            batch=BatchPlan(labelled=16, selected=16),
            teacher=ExponentialAverage(decay=0.99),
        ),
        labelling=LandmarkLabelling(views=8),
        scoring=ScoringSpec(views=8),
        ranking="consistency",
        selector=ClassShare(share=0.9),
        policy=RoundPolicy(
            num_rounds=2, start="warm", deliver="last", roll_back_below=0.05, label_last=False
        ),
    ),
)
