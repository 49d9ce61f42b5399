"""Noisy Student: the k most confident rows of each class, soft targets, rare classes repeated.

Source: Xie, Luong, Hovy, Le, CVPR 2020, arXiv:1911.04252, section 2: an un-noised teacher, a
confidence of at least 0.3, class balance by top k and by repetition, a noised student that is at
least as large, soft targets, label smoothing 0.1 on labelled rows, every row of the batch counting
alike against the labelled ones (weight 96 / 32), three rounds.
Departs from the paper: k is 0.7 of the pool's rows per class instead of 130,000; the student has
the teacher's size unless the config says otherwise; noise is strong views (no RandAugment) and
dropout, with stochastic depth where the timm model has it; labelled rows keep their weak views,
since 600 steps are too few for strong ones (round 0 on Fashion-MNIST, seed 0: 73.5 against 78.4);
the teacher is an average of the student's weights; rows are repeated ten times at most.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.objective import LabelledTerm, Objective, SelectedTerm
from trainables.own_networks import SmallCnn
from trainables.selectors.fixed import EvenShare
from trainables.student import StepCount, TrainingSpec
from trainables.targets import TargetSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Top k of each class with soft targets, rare classes repeated, a noised student.",
    source="Xie et al., CVPR 2020, arXiv:1911.04252",
    departs="equal student size; strong views of pseudo-labelled rows alone",
    search=(
        "curriculum",
        "selection",
        "targets",
        "labelling",
        "policy",
        "rounds",
        "teacher",
        "training",
    ),
    recipe=Recipe(
        student=SmallCnn(dropout=0.2),
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96, max_copies=10),
            objective=Objective(
                labelled=LabelledTerm(label_smoothing=0.1), selected=SelectedTerm(weight=3.0)
            ),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=EvenShare(share=0.7, least_confidence=0.3),
        targets=TargetSpec(kind="soft"),
        policy=RoundPolicy(num_rounds=4, start="restart", deliver="best"),
    ),
)
