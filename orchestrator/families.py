"""What the methods of one family share, so that each method's file says only what is its own."""

from typing import Any

from orchestrator.recipe import LabellingSpec, Recipe, RoundPolicy
from trainables.augment import STRONG, ViewSpec
from trainables.auxiliary import RepresentationSpec
from trainables.batches import BatchPlan
from trainables.losses import RowLoss
from trainables.objective import (
    BalanceTerm,
    ConsistencyTerm,
    EntropyTerm,
    LabelledTerm,
    Objective,
    SelectedTerm,
)
from trainables.optimiser import OptimiserSpec
from trainables.own_networks import SmallCnn
from trainables.schedules import Stepwise
from trainables.selectors.fixed import Everything
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage


def one_round(
    consistency: ConsistencyTerm,
    *,
    labelled: LabelledTerm | None = None,
    balance: BalanceTerm | None = None,
    entropy: EntropyTerm | None = None,
    steps: StepCount | None = None,
    strong: ViewSpec = STRONG,
    representation: RepresentationSpec | None = None,
    **training: Any,
) -> Recipe:
    """One round that labels at every step: 1,000 steps of 32 labelled and 128 pool rows.

    Learning rate and EMA are those of FixMatch (arXiv:2001.07685), scaled to a thousandth of its
    steps; the rate falls by half a cosine to cos(7 pi / 16), where FixMatch ends too, but is lower
    in between. The term acts from round 0.
    """
    objective = Objective(
        labelled=labelled or LabelledTerm(),
        consistency=consistency.model_copy(update={"first_round": 0}),
        balance=balance,
        entropy=entropy,
        strong=strong,
        representation=representation,
    )
    return Recipe(
        training=TrainingSpec(
            steps=steps or StepCount(first_round=1000),
            batch=BatchPlan(labelled=32, selected=0, pool=128),
            objective=objective,
            optimiser=OptimiserSpec(learning_rate=0.06, final_share=0.195),
            teacher=ExponentialAverage(decay=0.99),
            **training,
        ),
        policy=RoundPolicy(num_rounds=1, label_last=False),
    )


def whole_pool(loss: RowLoss) -> Recipe:
    """One round on labels, then two on the whole pool's hard labels, learnt with this loss."""
    return Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96),
            objective=Objective(selected=SelectedTerm(loss=loss)),
            teacher=ExponentialAverage(decay=0.99),
        ),
        selector=Everything(),
        policy=RoundPolicy(num_rounds=3, start="restart", deliver="best"),
    )


def warm_rounds(
    *,
    policy: RoundPolicy,
    labelling: LabellingSpec | None = None,
    steps: StepCount | None = None,
    mixup: float = 0.5,
    dropout: float = 0.0,
    **choosing: Any,
) -> Recipe:
    """Rounds on stored labels with the training that the house default found to work.

    Strong views of selected rows, mixup, an EMA teacher, a learning rate of 0.1. ``choosing`` holds
    what the method is about: filters, calibrators, selector, targets.
    """
    return Recipe(
        student=SmallCnn(dropout=dropout),
        training=TrainingSpec(
            steps=steps or StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96),
            objective=Objective(mixup_alpha=mixup),
            optimiser=OptimiserSpec(learning_rate=0.1),
            teacher=ExponentialAverage(decay=0.99),
        ),
        labelling=labelling or LabellingSpec(),
        policy=policy,
        **choosing,
    )


def adaptation(objective: Objective, learning_rate: float = 0.001) -> Recipe:
    """A round on labels, then one that adapts normalisation to the pool without any label.

    Optimiser as in Rusak et al., TMLR 2022, arXiv:2104.12928: SGD, 96 rows, scales and shifts of
    normalisation layers alone, the batch's own statistics; its rate of 0.00075 stays, ours begins
    at 0.001 and falls by half a cosine. Give `student.checkpoint` and one round to adapt a network
    of your own.
    """
    return Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=200),
            batch=BatchPlan(labelled=0, labelled_alone=64, selected=0, pool=96),
            objective=objective,
            optimiser=OptimiserSpec(
                learning_rate=Stepwise(values=(0.03, learning_rate)),
                final_share=0.0,
                trains="norm",
            ),
        ),
        selector=Everything(),
        policy=RoundPolicy(num_rounds=2, start="warm", deliver="best", label_last=False),
    )
