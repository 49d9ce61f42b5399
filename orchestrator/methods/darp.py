"""DARP: labels refined towards the pool's class balance, as it is estimated from labelled rows.

Source: Kim et al., Distribution aligning refinery, NeurIPS 2020, arXiv:2007.08844, section 3 and
algorithm 1 (alpha 2, 10 iterations); the balance is estimated from out-of-fold predictions as in
the released code.
Departs from the paper: refined once a round on the stored table, fitted on 16,384 of its rows at
most, behind the rounds of the house default.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.calibrators import Transport
from trainables.schedules import Linear
from trainables.selectors.fixed import ClassShare

METHOD = Method(
    summary="Labels refined towards the pool's estimated class balance.",
    source="Kim et al., NeurIPS 2020, arXiv:2007.08844",
    departs="refined once a round",
    search=(
        "class_balance",
        "out_of_fold",
        "curriculum",
        "policy",
        "rounds",
        "teacher",
        "training",
    ),
    recipe=warm_rounds(
        labelling=LabellingSpec(out_of_fold=3),
        calibrators=(Transport(plan="refine", target="estimated"),),
        selector=ClassShare(share=Linear(start=0.5, end=1.0)),
        policy=RoundPolicy(num_rounds=4, start="warm"),
    ),
)
