"""Concentrated specialists: students of parts of the classes teach one of all, easy rows first.

Source: house method under a neutral name after Knowledge Concentration (Gao et al.,
arXiv:1711.07607), of which only the idea is public here: specialists' softmaxes, each over its own
classes, are distilled into one student at a self-paced rate.
Departs from the paper: two specialists learn from the labelled rows of their classes; name foreign
ones in `labelling.foreign` with () for classes they do not know. What a specialist does not know is
filled in by the student of all classes; pacing is by class and by round; no added layers.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.combining import Specialists
from trainables.schedules import Linear
from trainables.selectors.fixed import ClassShare
from trainables.student import StepCount
from trainables.targets import TargetSpec
from trainables.weighting import SelfPaced

METHOD = Method(
    summary="Students of parts of the classes teach one of all classes, easy rows first.",
    source="house method after arXiv:1711.07607",
    departs="specialists are students; mapping and pace of the house",
    search=("specialists", "curriculum", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(specialists=2, combine=Specialists(trust=0.5)),
        steps=StepCount(first_round=300, base=600),
        selector=ClassShare(share=Linear(start=0.5, end=1.0)),
        targets=TargetSpec(kind="soft", weight=SelfPaced(pace=Linear(start=2.0, end=8.0))),
        policy=RoundPolicy(num_rounds=4, start="warm"),
    ),
)
