"""IFPL: the 16 surest rows of each class, labelled anew by each round's student.

Source: Menghini, Delworth, Bach, Enhancing CLIP with CLIP, NeurIPS 2023, arXiv:2306.01669, section
3: K = 16 in every iteration, new weights each time.
Departs from the paper: a network of its own is trained instead of prompts; give `labelling.foreign`
for the zero-shot first labels, else round 0 learns from labelled rows; labelled and pseudo-labelled
rows are two means of equal weight, where the released code weighs the labelled one by the number of
pseudo-labels over that of labels; a class of which fewer rows are predicted takes those that others
left, whatever the order of rows, where the released code depends on it; no pseudo-label is held out
for validation.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.selectors.fixed import ClassTopK
from trainables.student import StepCount

METHOD = Method(
    summary="The 16 surest rows of each class, labelled anew by each round's student.",
    source="Menghini et al., NeurIPS 2023, arXiv:2306.01669",
    departs="networks instead of prompts; two means of equal weight",
    search=("selection", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        steps=StepCount(first_round=400, base=400),
        mixup=0.0,
        selector=ClassTopK(k=16, fill=True),
        policy=RoundPolicy(num_rounds=6, start="restart", deliver="best"),
    ),
)
