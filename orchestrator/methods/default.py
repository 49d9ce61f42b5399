"""Default: warm-started rounds on a growing share of each class, strong views, mixup, EMA.

Source: house recipe, found by measurement (the tables and what was left out stand in
benchmarks/README.md); its parts are class shares as in class-balanced self-training (Zou et al.,
ECCV 2018, arXiv:1810.07911), a growing share as in Curriculum Labeling (arXiv:2001.06001), a noised
student as in Noisy Student (arXiv:1911.04252), mixup (arXiv:1710.09412), and the weight average of
Mean Teacher (arXiv:1703.01780).

What the measurements on Fashion-MNIST with 400 labels showed to matter, most first: a warm start,
steps that grow with the selection, strong views on selected rows and weak ones on labelled rows, a
learning rate of 0.1, mixup. Soft targets and an in-round consistency term changed nothing at equal
cost and are left out.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.objective import Objective
from trainables.optimiser import OptimiserSpec
from trainables.schedules import Linear
from trainables.selectors.fixed import ClassShare
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Warm rounds on a growing share of each class, strong views, mixup, an EMA teacher.",
    source="house recipe, found by measurement: benchmarks/README.md",
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
            steps=StepCount(first_round=600, base=300, passes_over_selection=1.75),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96),
            objective=Objective(mixup_alpha=0.5),
            optimiser=OptimiserSpec(learning_rate=0.1),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=ClassShare(share=Linear(start=0.5, end=1.0)),
        policy=RoundPolicy(num_rounds=4, start="warm", deliver="last", roll_back_below=0.03),
    ),
)
