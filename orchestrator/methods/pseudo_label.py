"""Pseudo-Label between rounds: accept rows above a fixed confidence, with hard labels.

Source: Lee, Pseudo-Label, ICML workshop on Challenges in Representation Learning, 2013.
Departs from the paper: labels are made between rounds on the whole pool, not within each batch, and
only above a threshold, as later implementations do; the weight does not ramp up; selected rows are
learnt in strong views, not in the view that was labelled, and the mean of their loss is over the
accepted rows alone.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.batches import BatchPlan
from trainables.selectors.fixed import Threshold
from trainables.student import StepCount, TrainingSpec

METHOD = Method(
    summary="Accept rows above a fixed confidence, with hard labels.",
    source="Lee, ICML workshop 2013",
    departs="labels between rounds, above a threshold; strong views; no ramp",
    search=(
        "selection",
        "targets",
        "calibration",
        "labelling",
        "policy",
        "rounds",
        "teacher",
        "training",
    ),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=32, labelled_alone=64, selected=96),
        ),
        selector=Threshold(threshold=0.95),
        policy=RoundPolicy(num_rounds=4, start="restart", deliver="last"),
    ),
)
