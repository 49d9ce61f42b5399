"""Entropy adaptation (ENT): a trained student grows sure of the pool without a single label.

Source: Rusak et al., If your data distribution shifts, use self-learning, TMLR 2022,
arXiv:2104.12928: the mean entropy of the predictions on target rows is minimised, with
their batch statistics, over scales and shifts of batch norm alone.
Departs from the paper: round 0 trains the source network on the labelled rows, which here come
from the pool's own distribution; the rate is 0.001, not 0.00075,
and falls by half a cosine; 200 steps of 96 rows.
"""

from orchestrator.families import adaptation
from orchestrator.method import Method
from trainables.augment import PLAIN
from trainables.objective import EntropyTerm, Objective
from trainables.schedules import Stepwise

METHOD = Method(
    summary="A trained student adapts its batch norm until it is sure of the pool.",
    source="Rusak et al., TMLR 2022, arXiv:2104.12928",
    departs="round 0 trains the source network; fewer steps, a falling rate",
    search=("adaptation",),
    recipe=adaptation(
        Objective(
            entropy=EntropyTerm(weight=Stepwise(values=(0.0, 1.0)), rows="unlabelled"),
            strong=PLAIN,
        )
    ),
)
