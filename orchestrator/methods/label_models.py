"""Label models: several students vote, Dawid and Skene's model weighs their votes class by class.

Source: house method under a neutral name: data programming with networks as label functions, after
DP-SSL (Xu et al., NeurIPS 2021, arXiv:2110.13740); the label model is that of Dawid and Skene,
Applied Statistics 1979.
Departs from the paper: label functions are five students of different seeds that never abstain,
where the paper's are heads that multiple-choice learning makes specialists of some classes; the
label model never sees labelled rows, and votes of students that err together count in full; rows
on which fewer than three of five agree are left out; trained as the house default is: mixup 0.5, an
average of weights labels, warm starts.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.combining import LabelModel
from trainables.filters import Agreement
from trainables.selectors.fixed import Everything
from trainables.student import StepCount
from trainables.targets import TargetSpec

METHOD = Method(
    summary="Five students vote; a label model weighs their votes class by class.",
    source="house method after arXiv:2110.13740; Dawid and Skene 1979",
    departs="students are the label functions",
    search=("ensemble", "filters", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(students=5, combine=LabelModel(model="dawid_skene")),
        steps=StepCount(first_round=300, base=600),
        filters=(Agreement(share=0.6),),
        selector=Everything(),
        targets=TargetSpec(kind="soft"),
        policy=RoundPolicy(num_rounds=3, start="warm"),
    ),
)
