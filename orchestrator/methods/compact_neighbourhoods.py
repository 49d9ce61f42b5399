"""Compact neighbourhoods: labels smoothed over neighbours; compact rows are chosen and weighed.

Source: house method under a neutral name after prototype-guided selection with neighbourhood-aware
refinement (Ali et al., arXiv:2507.22075), whose formulas are not public: rows by their margin to
class prototypes, labels refined by ten neighbours, weights from both.
Departs from the paper: features and first labels are those of a student that labelled rows taught,
instead of a vision-language model's; all formulas are of the house.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.nearby import NeighbourMean
from trainables.schedules import Linear
from trainables.selectors.located import Compactness
from trainables.student import StepCount
from trainables.targets import TargetSpec
from trainables.weighting import Neighbourhood

METHOD = Method(
    summary="Labels smoothed over neighbours; rows compact in their class, weighed by both.",
    source="house method after arXiv:2507.22075",
    departs="student's features; formulas of the house",
    search=("selection", "neighbours", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        steps=StepCount(first_round=600, base=600),
        calibrators=(NeighbourMean(k=10, share=0.5, temperature=0.07),),
        selector=Compactness(drop=Linear(start=0.6, end=0.1)),
        targets=TargetSpec(weight=Neighbourhood(k=10)),
        policy=RoundPolicy(num_rounds=4, start="warm"),
    ),
)
