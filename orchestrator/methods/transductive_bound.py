"""Transductive self-training: by class, the threshold that minimises a bound on the error.

Source: Feofanov, Devijver, Amini, AAAI 2019, and Amini et al., Self-training: a survey,
arXiv:2202.12040, section 3: the threshold of each class minimises the bound on the conditional
error of the majority vote; accepted rows stay.
Departs from the paper: votes are the averaged probabilities of three networks instead of a random
forest, trained as the house default is (mixup 0.5, an average of weights) and started warm; the
bound reads the votes of the present networks on the whole pool, those of accepted rows too, where
the paper takes accepted rows out of it and its released code may keep the first model's votes; the
means over labelled and selected rows count alike.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.selectors.sampled import TransductiveBound
from trainables.student import StepCount

METHOD = Method(
    summary="By class, the threshold that minimises a transductive error bound.",
    source="Feofanov et al., AAAI 2019; survey arXiv:2202.12040",
    departs="networks instead of a forest",
    search=("transductive_bound", "ensemble", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(students=3),
        steps=StepCount(first_round=300, base=600),
        selector=TransductiveBound(),
        policy=RoundPolicy(num_rounds=4, pool="keep", start="warm"),
    ),
)
