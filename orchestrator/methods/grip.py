"""GRIP: K surest rows of each class, K growing to an even share of the pool.

Source: Menghini, Delworth, Bach, Enhancing CLIP with CLIP, NeurIPS 2023, arXiv:2306.01669, section
3: K growing linearly to the whole pool over the iterations, new weights each time.
Departs from the paper: a network of its own is trained instead of prompts; give `labelling.foreign`
for the zero-shot first labels, else round 0 learns from labelled rows; labelled and pseudo-labelled
rows are two means of equal weight, where the released code weighs the labelled one by the number of
pseudo-labels over that of labels; a class of which fewer rows are predicted takes those that others
left, whatever the order of rows, where the released code depends on it; five iterations instead of
ten, and no pseudo-label is held out for validation.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.schedules import Linear
from trainables.selectors.fixed import EvenShare
from trainables.student import StepCount

METHOD = Method(
    summary="K surest rows of each class, K growing to an even share of the pool.",
    source="Menghini et al., NeurIPS 2023, arXiv:2306.01669",
    departs="networks instead of prompts; two means of equal weight; five iterations",
    search=("curriculum", "selection", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        steps=StepCount(first_round=400, base=400),
        mixup=0.0,
        selector=EvenShare(share=Linear(start=0.2, end=1.0), fill=True),
        policy=RoundPolicy(num_rounds=6, start="restart", deliver="best"),
    ),
)
