"""SoftMatch: every row counts, by a Gaussian of how far its confidence is below the running mean.

Source: Chen et al., SoftMatch, ICLR 2023, arXiv:2301.10921: weights from uniformly aligned
probabilities (equations 6 to 8, n_sigma 2), hard targets from the probabilities as they were.
Departs from the paper: as `fixmatch`; statistics remember with 0.99 instead of 0.999 and begin with
the first batch, without which every early weight is 1.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.calibrators import Align
from trainables.objective import ConsistencyTerm
from trainables.selectors.fixed import Everything
from trainables.targets import TargetSpec
from trainables.weighting import Gaussian

METHOD = Method(
    summary="All rows, weighted by a Gaussian of how far they are below the mean confidence.",
    source="Chen et al., ICLR 2023, arXiv:2301.10921",
    departs="a shorter memory; fewer and smaller steps",
    search=("consistency", "step_alignment", "memory", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            calibrators=(Align(),),
            selector=Everything(),
            targets=TargetSpec(reads="teacher", weight=Gaussian()),
        )
    ),
)
