"""Curriculum Labeling: a growing top share of the whole pool, a restart every round.

Source: Cascante-Bonilla, Tan, Qi, Ordonez, AAAI 2021, arXiv:2001.06001, Algorithm 1; checked
against the authors' released loop: the percentile falls by 20 each round until the whole pool is
in, every round relabels the whole pool with the previous round's student, training restarts from
new weights with mixup (alpha 1) and strong views.
Departs from the paper: cross-entropy is not weighted by class frequency, since those weights span
240x when a class gets few labels; weights are averaged by EMA instead of SWA; labelled rows are
drawn apart from the selected ones, with a mean of their own, so that they keep half of the loss
however many rows are selected, where the paper trains on one shuffled union; strong views are those
of `fixmatch` instead of RandAugment.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.objective import LabelledTerm, Objective
from trainables.schedules import Stepwise
from trainables.selectors.fixed import TopShare
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="A growing top share of the whole pool, a restart every round.",
    source="Cascante-Bonilla et al., AAAI 2021, arXiv:2001.06001",
    departs="no class-frequency weights; EMA, no SWA; labelled rows apart, not one union",
    search=("curriculum", "calibration", "labelling", "policy", "rounds", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96),
            objective=Objective(labelled=LabelledTerm(view="strong"), mixup_alpha=1.0),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=TopShare(share=Stepwise(values=(0.2, 0.4, 0.6, 0.8, 1.0))),
        policy=RoundPolicy(num_rounds=6, start="restart", deliver="best"),
    ),
)
