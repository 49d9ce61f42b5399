"""Imprecise label learning for unlabelled rows: aligned soft labels of all rows, no threshold.

Source: Chen et al., Imprecise label learning, NeurIPS 2024, arXiv:2305.12715, as released for
semi-supervised learning by the same authors: soft targets from uniformly aligned weak views, all
rows, and 0.1 times the cross-entropy of the mean prediction to equal shares.
Departs from the paper: as `fixmatch`; the balance is over all rows of the batch, where the released
code reads weak views of pool rows alone; targets keep all classes instead of the three most
probable; the alignment remembers about 100 batches instead of 1,000 and begins with the first; the
paper's noisy and partial labels are not here.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.calibrators import Align
from trainables.objective import BalanceTerm, ConsistencyTerm
from trainables.selectors.fixed import Everything
from trainables.targets import TargetSpec

METHOD = Method(
    summary="Aligned soft labels of every row, without a threshold, and a balanced mean.",
    source="Chen et al., NeurIPS 2024, arXiv:2305.12715",
    departs="fewer and smaller steps",
    search=("consistency", "step_alignment", "memory", "balance", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            calibrators=(Align(),),
            selector=Everything(),
            targets=TargetSpec(kind="soft"),
        ),
        balance=BalanceTerm(weight=0.1),
    ),
)
