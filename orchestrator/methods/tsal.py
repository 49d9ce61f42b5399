"""TSAL: a radical and a calm network that learn from several sources and absorb each other.

Source: Meng et al., Teacher-Student Asynchronous Learning with Multi-Source Consistency for Facial
Landmark Detection, arXiv:2012.06711. The released step can't be run, so this is built from the
paper's text and not a reproduction of its results.
Departs from the paper: optical flow is OpenCV's DIS, heatmaps are softmaxed, rates fit short rounds
(`trainables.landmarks.settings.TwoSources` says more).
"""

from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.batches import BatchPlan
from trainables.landmarks.settings import LandmarkTraining, TwoSources
from trainables.student import StepCount
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Landmarks in video: two networks with sources of their own absorb each other.",
    source="TSAL, Meng et al., arXiv:2012.06711",
    departs="optical flow is OpenCV's DIS; heatmaps are softmaxed; rates fit short rounds",
    search=("landmarks", "tsal"),
    recipe=LandmarkRecipe(
        training=LandmarkTraining(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=16, selected=0, pool=8),
            teacher=ExponentialAverage(decay=0.99),
            two_sources=TwoSources(first_round=1),
        ),
        policy=RoundPolicy(
            num_rounds=2, start="warm", deliver="last", roll_back_below=0.05, label_last=False
        ),
    ),
)
