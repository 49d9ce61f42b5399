"""Truncated generalised cross-entropy: rows far from their label cost a constant.

Source: Zhang and Sabuncu, Generalized cross entropy, NeurIPS 2018, arXiv:1805.07836, equation 8, q
0.7, bound 0.5.
Departs from the paper: rows are left out at each step from the first one on, instead of every ten
epochs from the fortieth, so pseudo-labels teach nothing until labelled rows have made some of them
probable; the noisy labels are a teacher's pseudo-labels.
"""

from orchestrator.families import whole_pool
from orchestrator.method import Method
from trainables.losses import GeneralisedCrossEntropy

METHOD = Method(
    summary="The whole pool's labels; rows far from their label cost a constant.",
    source="Zhang and Sabuncu, NeurIPS 2018, arXiv:1805.07836",
    departs="rows are left out step by step",
    search=("losses", "policy", "rounds", "teacher", "training"),
    recipe=whole_pool(GeneralisedCrossEntropy(q=0.7, truncate=0.5)),
)
