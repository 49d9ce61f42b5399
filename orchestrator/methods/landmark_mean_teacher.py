"""Landmarks with a mean teacher: what it finds in one view teaches the student in another.

Source: Tarvainen and Valpola, Mean teachers, NeurIPS 2017, arXiv:1703.01780.
Departs from the paper: targets are points moved between the views, weighed by the teacher's peak.
"""

from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.batches import BatchPlan
from trainables.landmarks.settings import LandmarkTraining, PointConsistency
from trainables.student import StepCount
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Landmarks: a mean teacher's points in one view teach another.",
    source="Tarvainen and Valpola, Mean teachers, arXiv:1703.01780",
    departs="targets are points, moved by the views' geometry and weighed by the teacher's peak",
    search=("landmarks", "teacher"),
    recipe=LandmarkRecipe(
        training=LandmarkTraining(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=16, selected=0, pool=16),
            consistency=PointConsistency(first_round=1),
            teacher=ExponentialAverage(decay=0.99),
        ),
        policy=RoundPolicy(
            num_rounds=2, start="warm", deliver="last", roll_back_below=0.05, label_last=False
        ),
    ),
)
