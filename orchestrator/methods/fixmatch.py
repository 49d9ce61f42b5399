"""FixMatch: sure labels of a weak view are the targets of a strong view, in one round.

Source: Sohn et al., FixMatch, NeurIPS 2020, arXiv:2001.07685, algorithm 1; threshold 0.95, all pool
rows of the batch in the denominator, an EMA of 0.999 for scoring only.
Departs from the paper: 1,000 steps of 32 labelled and 128 pool rows instead of 2^20 of 64 and 448,
so the learning rate is 0.06 and the EMA 0.99; the rate falls by half a cosine to where the paper's,
a cosine to 7 pi / 16, ends; strong views are one set of random changes of shape, brightness and
contrast with an erased part (`trainables.augment.STRONG`) instead of RandAugment or CTAugment with
Cutout; the weak view is labelled in evaluation mode.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm

METHOD = Method(
    summary="Sure labels of a weak view teach a strong view of the same row, in one round.",
    source="Sohn et al., NeurIPS 2020, arXiv:2001.07685",
    departs="fewer and smaller steps; other strong views; labels in evaluation mode",
    search=("consistency", "teacher", "training"),
    recipe=one_round(ConsistencyTerm()),
)
