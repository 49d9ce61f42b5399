"""DebiasPL: FixMatch on labels from which the model's own class preference was subtracted.

Source: Wang et al., Debiased learning from naturally imbalanced pseudo-labels, CVPR 2022,
arXiv:2201.01490, equation 3: logits minus 0.4 times the log of the running mean prediction.
Departs from the paper: as `fixmatch`; the adaptive margin in the loss of strong views is left out.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.calibrators import AdjustLogits
from trainables.objective import ConsistencyTerm

METHOD = Method(
    summary="FixMatch on labels freed from the model's own preference of classes.",
    source="Wang et al., CVPR 2022, arXiv:2201.01490",
    departs="no margin in the loss; fewer and smaller steps",
    search=("consistency", "step_alignment", "memory", "teacher", "training"),
    recipe=one_round(ConsistencyTerm(calibrators=(AdjustLogits(strength=0.4),))),
)
