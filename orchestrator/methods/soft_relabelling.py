"""Soft relabelling of every row, round after round, held up by mixup and two regularisers.

Source: Arazo et al., Pseudo-labeling and confirmation bias, IJCNN 2020, arXiv:1908.02983, sections
3.1 to 3.3: soft labels of all rows from the last epoch, mixup (alpha 1), 0.8 times the balance
term, 0.4 times the entropy term, 16 labelled rows in every batch of 100.
Departs from the paper: a warm-started round of 300 steps stands for an epoch and labels are those
of the EMA teacher in evaluation mode; batches are 16 + 96; selected rows are seen in strong views;
no dropout, where the paper has 0.1 (`student.dropout`).
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.objective import (
    BalanceTerm,
    EntropyTerm,
    LabelledTerm,
    Objective,
    SelectedTerm,
)
from trainables.schedules import Stepwise
from trainables.selectors.fixed import Everything
from trainables.student import StepCount, TrainingSpec
from trainables.targets import TargetSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Soft labels of every row, relabelled each round, with mixup and a balanced mean.",
    source="Arazo et al., IJCNN 2020, arXiv:1908.02983",
    departs="rounds stand for epochs; labels are the EMA teacher's",
    search=("balance", "labelling", "policy", "rounds", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=300, base=300),
            batch=BatchPlan(labelled=16, labelled_alone=64, selected=96),
            objective=Objective(
                labelled=LabelledTerm(weight=Stepwise(values=(1.0, 0.143))),
                selected=SelectedTerm(weight=0.857),
                balance=BalanceTerm(weight=0.8),
                entropy=EntropyTerm(weight=0.4),
                mixup_alpha=1.0,
            ),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=Everything(),
        targets=TargetSpec(kind="soft"),
        policy=RoundPolicy(num_rounds=7, start="warm", deliver="best"),
    ),
)
