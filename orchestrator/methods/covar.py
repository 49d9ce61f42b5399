"""CoVar: rows told reliable by sureness and by how evenly the other classes share the rest.

Source: CoVar, arXiv:2601.11670, as released, after CSL, arXiv:2509.16704: spectral split of (log
confidence, scaled residual variance), every row counts, unreliable ones by a Gaussian.
Departs from the paper: split once a round on at most 16,384 rows instead of in every batch, behind
the rounds of the house default.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import RoundPolicy
from trainables.selectors.fixed import Everything
from trainables.targets import TargetSpec
from trainables.weighting import Separated

METHOD = Method(
    summary="All rows, weighted by sureness and by how even the other classes are.",
    source="arXiv:2601.11670, after CSL, arXiv:2509.16704",
    departs="split once a round",
    search=("separation", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        selector=Everything(),
        targets=TargetSpec(weight=Separated()),
        policy=RoundPolicy(num_rounds=4, start="warm"),
    ),
)
