"""AdaMatch: FixMatch behind an alignment to the labelled balance, at a relative threshold.

Source: Berthelot et al., AdaMatch, ICLR 2022, arXiv:2106.04732, sections 3.2 to 3.4: threshold 0.9
of the mean confidence on the batch's labelled rows, labelled rows in both views, a weight that
rises as (1 - cos(2 pi t)) / 2 over the first half.
Departs from the paper: as `fixmatch`; the target balance is the labelled rows' class frequency; no
random interpolation of logits between joint and separate batch statistics; the weight rises by half
a cosine over the whole round.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.calibrators import Align
from trainables.objective import ConsistencyTerm, LabelledTerm
from trainables.schedules import Cosine
from trainables.selectors.adaptive import RelativeThreshold

METHOD = Method(
    summary="FixMatch behind an alignment to the labelled balance, at a relative threshold.",
    source="Berthelot et al., ICLR 2022, arXiv:2106.04732",
    departs="no interpolation of logits; a slower ramp; fewer and smaller steps",
    search=("consistency", "step_alignment", "memory", "ramp", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            weight=Cosine(start=0.0, end=1.0, over="steps"),
            calibrators=(Align(target="labelled"),),
            selector=RelativeThreshold(share=0.9),
        ),
        labelled=LabelledTerm(view="both"),
    ),
)
