"""Dual prototypes: a classifier and its class means in feature space label and weigh together.

Source: Ali et al., DPA, WACV 2025, arXiv:2408.08855: blended probabilities of two prototype sets,
weights by how probable the label is to both, all rows, a balanced mean prediction.
Departs from the paper: the first of the two classifiers is the student itself; name a source of
kind 'prototypes' in `labelling.foreign` to begin with text prototypes. Labelled rows and their loss
train along. Rounds stand for epochs, the pool's mean for the last 32 batches; prototypes are
sharpened by a temperature of 0.05 instead of 0.01; the alignment loss of text with image prototypes
is left out, and a class without rows has no prototype to fall back on.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.calibrators import Align
from trainables.nearby import PrototypeBlend
from trainables.objective import BalanceTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.selectors.fixed import Everything
from trainables.student import StepCount, TrainingSpec
from trainables.targets import TargetSpec
from trainables.teachers import ExponentialAverage
from trainables.weighting import Dual

METHOD = Method(
    summary="A classifier and its class means in feature space label and weigh together.",
    source="Ali et al., DPA, WACV 2025, arXiv:2408.08855",
    departs="the student instead of text prototypes; no alignment loss; once a round",
    search=("prototypes", "alignment", "balance", "policy", "rounds", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96),
            objective=Objective(balance=BalanceTerm(weight=1.0, rows="unlabelled")),
            optimiser=OptimiserSpec(learning_rate=0.1),
            teacher=ExponentialAverage(decay=0.99),
        ),
        calibrators=(Align(target="uniform"), PrototypeBlend(share=0.3)),
        selector=Everything(),
        targets=TargetSpec(weight=Dual()),
        policy=RoundPolicy(num_rounds=4, start="warm"),
    ),
)
