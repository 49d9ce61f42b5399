"""Meta Pseudo Labels: a teacher learns to give the labels that lower the student's labelled loss.

Source: Pham, Dai, Xie, Le, CVPR 2021, arXiv:2003.10580, section 3 and appendix; the gradient as it
is derived there (h = old - new labelled loss, the same drawn label on both sides), not as in the
released code, whose teacher gets no meta gradient from soft labels of its own.
Departs from the paper: 800 steps of 64 labelled and 128 pool rows; the meta term is the mean over
the pool rows where the derivation has their sum, so it counts 128 times less beside the teacher's
other terms; the last fifth of the steps finetunes the student itself, at the rate and decay of the
others, where the paper finetunes its weight average at a rate of its own; h is cut to [-1, 1]; no
label smoothing; the student learns from the first step on, without waiting for the teacher; strong
views are those of `fixmatch` instead of RandAugment.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.optimiser import OptimiserSpec
from trainables.partners import MetaTeacher
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="A teacher learns to give the labels that lower the student's labelled loss.",
    source="Pham et al., CVPR 2021, arXiv:2003.10580",
    departs="far fewer steps; a mean meta term; finetuning within the round",
    search=("meta", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=800),
            batch=BatchPlan(labelled=64, selected=0, pool=128),
            optimiser=OptimiserSpec(learning_rate=0.06, final_share=0.1),
            teacher=ExponentialAverage(decay=0.99),
            partner=MetaTeacher(),
        ),
        policy=RoundPolicy(num_rounds=1, label_last=False),
    ),
)
