"""Semi-ViT: an EMA teacher's labels, pairs of rows mixed by their confidence, after fine-tuning.

Source: Cai et al., Semi-supervised vision transformers at scale, NeurIPS 2022, arXiv:2208.05688
and its released code: a supervised stage first, then FixMatch with an EMA teacher, rows blended in
pairs with shares c_i / (c_i + c_j), a threshold of 0.6 on the surer of the two, weight 5.
Departs from the paper: a small convolutional network unless the config names a transformer; an EMA
of 0.99 for hundreds of steps instead of 0.9999; EMA statistics of batch norm where there is any.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.objective import ConsistencyTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.pool_mixing import PairMix
from trainables.selectors.fixed import Everything, Threshold
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="An EMA teacher labels; rows are mixed in pairs, the surer one making up more.",
    source="Cai et al., NeurIPS 2022, arXiv:2208.05688",
    departs="a small network by default; a shorter EMA",
    search=("consistency", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=800),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=0, pool=128),
            objective=Objective(
                consistency=ConsistencyTerm(
                    weight=5.0,
                    labels_from="teacher",
                    selector=Threshold(threshold=0.6),
                    mix=PairMix(),
                )
            ),
            optimiser=OptimiserSpec(learning_rate=0.03),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=Everything(),
        policy=RoundPolicy(num_rounds=2, start="warm", deliver="best", label_last=False),
    ),
)
