"""Averaged views: the default's rounds on labels averaged over weak views, for longer budgets.

Source: house recipe, found by measurement (benchmarks/README.md). Labels are the mean over the
image and three weak views of it, as the label guess of MixMatch (Berthelot et al., NeurIPS 2019,
arXiv:1905.02249, equation 6), aligned to the labelled balance as in ReMixMatch (ICLR 2020,
arXiv:1911.09785); rounds, views and mixup are those of `default`.

On Fashion-MNIST with 400 labels the mean over views labels the pool 1 to 1.5 points better than the
network that it is the mean of, and alignment half a point; so later rounds go on gaining where
those of the default stand still. Students are scored and delivered as they label, averaged over
four views, which is worth half a point to a whole one beyond the image alone.
"""

from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, Recipe, RoundPolicy, ScoringSpec
from trainables.batches import BatchPlan
from trainables.calibrators import Align
from trainables.objective import Objective
from trainables.optimiser import OptimiserSpec
from trainables.schedules import Linear
from trainables.selectors.fixed import ClassShare
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="The default's rounds, longer, on labels averaged over weak views and aligned.",
    source="house recipe, found by measurement: benchmarks/README.md",
    search=(
        "curriculum",
        "selection",
        "calibration",
        "labelling",
        "views",
        "policy",
        "rounds",
        "teacher",
        "training",
    ),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=1000, base=1200),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96),
            objective=Objective(mixup_alpha=0.5),
            optimiser=OptimiserSpec(learning_rate=0.2),
            teacher=ExponentialAverage(decay=0.99),
        ),
        labelling=LabellingSpec(views=4),
        calibrators=(Align(target="labelled"),),
        selector=ClassShare(share=Linear(start=0.6, end=1.0, until=0.5)),
        scoring=ScoringSpec(views=4),
        policy=RoundPolicy(
            num_rounds=4, start="warm", deliver="last", roll_back_below=0.03, label_last=False
        ),
    ),
)
