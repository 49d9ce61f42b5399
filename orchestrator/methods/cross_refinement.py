"""Cross refinement: two students teach each other sharpened labels of a growing surest share.

Source: house method after XPL (cross pseudo-labelling for sound source localisation), whose
formulas are not public: soft labels of the other model, sharpened, kept to a share that grows over
training; both draw batches and views of their own.
Departs from the paper: classification; labels are not averaged over epochs; temperature 0.5, a
share of 0.3 that grows to 1 over half of the round.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm
from trainables.partners import Peer
from trainables.schedules import Linear
from trainables.selectors.fixed import TopShare
from trainables.targets import TargetSpec

METHOD = Method(
    summary="Two students teach each other sharpened labels of a growing surest share.",
    source="house method after XPL",
    departs="numbers of the house; no average of labels over epochs",
    search=("consistency", "memory", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            selector=TopShare(share=Linear(start=0.3, end=1.0, until=0.5, over="steps")),
            targets=TargetSpec(kind="soft", temperature=0.5),
        ),
        partner=Peer(batches="own"),
    ),
)
