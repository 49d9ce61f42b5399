"""CReST+: CReST behind a progressive alignment to the labelled rows' class balance.

Source: Wei et al., CReST, CVPR 2021, arXiv:2102.09559, section 3.3: the labelled frequencies raised
to a power that falls from 1 to 0.5 over the generations.
Departs from the paper: as `crest`; the stored table is aligned, the batches inside a generation are
not.
"""

from orchestrator.method import Method
from orchestrator.methods import crest
from trainables.calibrators import Align
from trainables.schedules import Linear

METHOD = Method(
    summary="CReST behind an alignment to the labelled class balance that weakens by generation.",
    source="Wei et al., CVPR 2021, arXiv:2102.09559",
    departs="aligned on the table only; fewer steps and generations",
    search=("alignment", *crest.METHOD.search),
    recipe=crest.METHOD.recipe.model_copy(
        update={"calibrators": (Align(target="labelled", power=Linear(start=1.0, end=0.5)),)}
    ),
)
