"""UDA: sharpened soft labels of a weak view are the targets of a strong view, in one round.

Source: Xie et al., Unsupervised data augmentation, NeurIPS 2020, arXiv:1904.12848, section 2; rows
above 0.8 before sharpening, temperature 0.4.
Departs from the paper: no training signal annealing of the labelled loss; 1,000 steps of 32
labelled and 128 pool rows; strong views are those of `fixmatch` instead of RandAugment; the weak
view is labelled in evaluation mode; an EMA is scored.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm
from trainables.selectors.fixed import Threshold
from trainables.targets import TargetSpec

METHOD = Method(
    summary="Sharpened labels of a weak view teach a strong view of the same row, in one round.",
    source="Xie et al., NeurIPS 2020, arXiv:1904.12848",
    departs="no training signal annealing; fewer and smaller steps",
    search=("consistency", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            selector=Threshold(threshold=0.8), targets=TargetSpec(kind="soft", temperature=0.4)
        )
    ),
)
