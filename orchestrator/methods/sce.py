"""Symmetric cross-entropy: the whole pool's labels, with target and prediction exchanged too.

Source: Wang et al., Symmetric cross entropy, ICCV 2019, arXiv:1908.06112, equations 7 and 8, with
the alpha 0.1, beta 1 and log 0 = -4 (here log 1e-4) of CIFAR-10.
Departs from the paper: the noisy labels are a teacher's pseudo-labels and the labelled rows keep
their own cross-entropy.
"""

from orchestrator.families import whole_pool
from orchestrator.method import Method
from trainables.losses import SymmetricCrossEntropy

METHOD = Method(
    summary="The whole pool's labels with cross-entropy in both directions.",
    source="Wang et al., ICCV 2019, arXiv:1908.06112",
    departs="the noise is that of pseudo-labels",
    search=("losses", "policy", "rounds", "teacher", "training"),
    recipe=whole_pool(SymmetricCrossEntropy()),
)
