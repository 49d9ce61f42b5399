"""Doubly robust self-training: pseudo-labels for all rows, corrected by the labelled ones.

Source: Zhu et al., Doubly robust self-training, NeurIPS 2023, arXiv:2306.00265, section 3: the
whole pool with the teacher's hard labels, the correction's weight rising linearly from 0 to 1 over
the student's training.
Departs from the paper: the teacher's labels of labelled rows are made out of fold, without which
the correction vanishes; the loss of a row is bounded by 1.3 log C, 3 nats for ten classes, since
what is subtracted has no end otherwise; weak views.
"""

from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.losses import BoundedCrossEntropy
from trainables.objective import DoublyRobust, LabelledTerm, Objective, SelectedTerm
from trainables.schedules import Linear
from trainables.selectors.fixed import Everything
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Pseudo-labels for all rows, corrected by what they get wrong on labelled rows.",
    source="Zhu et al., NeurIPS 2023, arXiv:2306.00265",
    departs="out-of-fold labels for the correction; a bounded loss",
    search=("doubly_robust", "losses", "out_of_fold", "policy", "rounds", "teacher", "training"),
    recipe=Recipe(
        labelling=LabellingSpec(out_of_fold=4),
        training=TrainingSpec(
            steps=StepCount(first_round=400, base=800),
            batch=BatchPlan(labelled=64, selected=96),
            objective=Objective(
                labelled=LabelledTerm(loss=BoundedCrossEntropy(bound=1.3)),
                selected=SelectedTerm(view="weak", loss=BoundedCrossEntropy(bound=1.3)),
                doubly_robust=DoublyRobust(alpha=Linear(start=0.0, end=1.0, over="steps")),
            ),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=Everything(),
        policy=RoundPolicy(num_rounds=2, start="restart", deliver="best", label_last=False),
    ),
)
