"""Consensus: a row is labelled if all models agree beyond thresholds learnt from labelled rows.

Source: house method after CoVLM (consensus of vision-language models; its thresholds are not
public): all sources must agree, and the mean's confidence must reach a precision of 0.9 on
out-of-fold rows.
Departs from the paper: sources are three students; give `labelling.foreign` to use other networks.
The threshold is learnt from the confidence of one student on rows out of its fold and read by the
mean of three, which is less confident. Warm fold students never saw their fold, but the labels of
their pool rows come from students that did.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.filters import Agreement
from trainables.selectors.adaptive import OutOfFoldPrecision
from trainables.student import StepCount

METHOD = Method(
    summary="Rows on which all models agree beyond thresholds learnt from labelled rows.",
    source="house method after CoVLM",
    departs="thresholds of the house",
    search=(
        "ensemble",
        "filters",
        "selection",
        "out_of_fold",
        "temperature",
        "policy",
        "rounds",
        "teacher",
        "training",
    ),
    recipe=warm_rounds(
        labelling=LabellingSpec(students=3, out_of_fold=3),
        steps=StepCount(first_round=400, base=600),
        filters=(Agreement(share=1.0),),
        selector=OutOfFoldPrecision(precision=0.9),
        policy=RoundPolicy(num_rounds=3, start="warm"),
    ),
)
