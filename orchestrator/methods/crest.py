"""CReST: generations of FixMatch, each given more labels of rare classes than of frequent ones.

Source: Wei et al., CReST, CVPR 2021, arXiv:2102.09559, sections 3.2 and 4; the share of each
predicted class is (N of the mirrored rank / N of the most frequent class)^(1/3), every generation
restarts and relabels the whole pool.
Departs from the paper: as `fixmatch`; 500 steps a generation and four of them; the selected rows do
not join the labelled ones: they are drawn apart and learnt in strong views, with a mean of their
own that doubles the weight of labels from the second generation on. With equally many labels of
each class all rows are taken.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.objective import ConsistencyTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.selectors.adaptive import ClassRate
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Generations of FixMatch that take more labels of rare classes.",
    source="Wei et al., CVPR 2021, arXiv:2102.09559",
    departs="fewer steps and generations; selected rows are a source apart",
    search=("consistency", "selection", "policy", "rounds", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=500, base=500),
            batch=BatchPlan(labelled=32, selected=32, pool=96),
            objective=Objective(consistency=ConsistencyTerm(first_round=0)),
            optimiser=OptimiserSpec(learning_rate=0.06, final_share=0.195),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=ClassRate(alpha=3.0),
        policy=RoundPolicy(num_rounds=4, start="restart", deliver="best"),
    ),
)
