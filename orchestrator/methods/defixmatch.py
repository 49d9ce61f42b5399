"""DeFixMatch: FixMatch minus its own loss on the labelled rows, which makes it unbiased.

Source: Schmutz, Humbert, Mattei, Don't fear the unlabelled, ICLR 2023, arXiv:2203.07512, equation
6; labelled rows in both views as in the released code.
Departs from the paper: as `fixmatch`; the loss of strong views is bounded by 4 log C, since
what is subtracted has no end otherwise.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.losses import BoundedCrossEntropy
from trainables.objective import ConsistencyTerm, LabelledTerm

METHOD = Method(
    summary="FixMatch minus its own loss on the labelled rows.",
    source="Schmutz et al., ICLR 2023, arXiv:2203.07512",
    departs="a bounded loss; fewer and smaller steps",
    search=("consistency", "losses", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(debias=True, loss=BoundedCrossEntropy()),
        labelled=LabelledTerm(view="both"),
    ),
)
