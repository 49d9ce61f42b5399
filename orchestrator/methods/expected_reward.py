"""Expected reward: rows whose label a small network, taught by out-of-fold rows, expects right.

Source: house method under a neutral name after SemiReward (Li et al., ICLR 2024, arXiv:2310.03013):
a rewarder of features and label embedding, its target the similarity to the true label, rows at or
above the mean reward.
Departs from the paper: rewards are fitted once a round on out-of-fold labelled rows, not in the
training loop; features enter as probabilities and cosines to the classes, which alone can be
compared between fold students and the student; wrong labels are drawn, not generated.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.selectors.located import ExpectedReward
from trainables.student import StepCount

METHOD = Method(
    summary="Rows whose label a network, taught by out-of-fold rows, expects to be right.",
    source="house method after SemiReward, arXiv:2310.03013",
    departs="once a round on the table; no features but what they say of classes",
    search=("selection", "out_of_fold", "temperature", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(out_of_fold=3),
        steps=StepCount(first_round=600, base=600),
        selector=ExpectedReward(),
        policy=RoundPolicy(num_rounds=3, start="restart"),
    ),
)
