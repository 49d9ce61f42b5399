"""Progressive ensemble: the k rows of each class that an ensemble is surest of, k growing.

Source: house method after Progressive Ensemble Networks (Ye and Guo, CVPR 2019), whose numbers are
not public: the mean of several classifiers, the most confident rows of each class, a few more each
round.
Departs from the paper: three networks of different seeds instead of heads with projected label
embeddings; classes are all known; earlier labels are made anew; three large steps from a fifth of
a class on instead of ten or more small ones.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.schedules import Linear
from trainables.selectors.fixed import EvenShare
from trainables.student import StepCount

METHOD = Method(
    summary="The k rows of each class that three networks are surest of, k growing.",
    source="house method after Ye and Guo, CVPR 2019",
    departs="networks of different seeds",
    search=("ensemble", "curriculum", "selection", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(students=3),
        steps=StepCount(first_round=300, base=600),
        selector=EvenShare(share=Linear(start=0.2, end=0.85)),
        policy=RoundPolicy(num_rounds=4, start="warm"),
    ),
)
