"""UDA: sharpened soft labels of a weak view are the targets of a strong view, in one round.

Source: Xie et al., Unsupervised data augmentation, NeurIPS 2020, arXiv:1904.12848, section 2; rows
above 0.8 before sharpening, temperature 0.4.
Departs from the paper: no training signal annealing of the labelled loss; 1,000 steps of 32
labelled and 128 pool rows; the weak view is labelled in evaluation mode; an EMA is scored.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.objective import ConsistencyTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Sharpened labels of a weak view teach a strong view of the same row, in one round.",
    source="Xie et al., NeurIPS 2020, arXiv:1904.12848",
    departs="no training signal annealing; fewer and smaller steps",
    search=("consistency", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=1000),
            batch=BatchPlan(labelled=32, selected=0, pool=128),
            objective=Objective(
                consistency=ConsistencyTerm(
                    first_round=0, threshold=0.8, target="soft", temperature=0.4
                )
            ),
            optimiser=OptimiserSpec(learning_rate=0.06, final_share=0.195),
            teacher=ExponentialAverage(decay=0.99),
        ),
        policy=RoundPolicy(num_rounds=1, label_last=False),
    ),
)
