"""Generalised cross-entropy: the whole pool's labels, learnt with a loss that forgives.

Source: Zhang and Sabuncu, Generalized cross entropy, NeurIPS 2018, arXiv:1805.07836, equation 6, q
0.7.
Departs from the paper: the noisy labels are a teacher's pseudo-labels and the labelled rows keep
their own cross-entropy.
"""

from orchestrator.families import whole_pool
from orchestrator.method import Method
from trainables.losses import GeneralisedCrossEntropy

METHOD = Method(
    summary="The whole pool's labels with a loss that doubts what it can't fit.",
    source="Zhang and Sabuncu, NeurIPS 2018, arXiv:1805.07836",
    departs="the noise is that of pseudo-labels",
    search=("losses", "policy", "rounds", "teacher", "training"),
    recipe=whole_pool(GeneralisedCrossEntropy(q=0.7)),
)
