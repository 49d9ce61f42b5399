"""Self Meta Pseudo Labels: a student judges its own labels by what they do to its labelled loss.

Source: Ng and Wang, arXiv:2212.13420: one set of weights and two optimiser steps, the second with
labelled loss, consistency above 0.95 and the meta term; gradients cut to a norm of 0.8. The sign of
the meta term is the one derived for Meta Pseudo Labels (arXiv:2003.10580), as `sign` says.
Departs from the paper: labels are drawn, and the second step reads the same labels and view; 600
steps of 64 labelled and 128 pool rows, the last fifth of them finetuning; h is cut to [-1, 1].
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.optimiser import OptimiserSpec
from trainables.partners import SelfMeta
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="A student judges its own labels by what they do to its labelled loss.",
    source="Ng and Wang, arXiv:2212.13420",
    departs="the derived sign; the same drawn labels in both steps; far fewer steps",
    search=("meta", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600),
            batch=BatchPlan(labelled=64, selected=0, pool=128),
            optimiser=OptimiserSpec(learning_rate=0.06, final_share=0.1, max_grad_norm=0.8),
            teacher=ExponentialAverage(decay=0.99),
            self_meta=SelfMeta(),
        ),
        policy=RoundPolicy(num_rounds=1, label_last=False),
    ),
)
