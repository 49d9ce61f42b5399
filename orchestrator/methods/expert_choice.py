"""Expert choice: for each row the label of the student whose probabilities vary more over classes.

Source: house method after FedLabel, as released in msrflute: of a local and a global model the one
with the larger variance over classes labels the row, above a confidence of 0.3.
Departs from the paper: nothing is federated; the two models are students of different seeds, and
neither the agreement term nor the pull to the round's start is there.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.combining import Choose
from trainables.selectors.fixed import Threshold
from trainables.student import StepCount

METHOD = Method(
    summary="For each row the label of the student that varies more over the classes.",
    source="house method after FedLabel (msrflute)",
    departs="nothing is federated",
    search=("ensemble", "selection", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(students=2, combine=Choose(by="variance")),
        steps=StepCount(first_round=400, base=600),
        selector=Threshold(threshold=0.3),
        policy=RoundPolicy(num_rounds=3, start="warm"),
    ),
)
