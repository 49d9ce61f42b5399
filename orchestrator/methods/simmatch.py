"""SimMatch: labels agree with the classifier and with the labelled rows that a row is alike to.

Source: Zheng et al., SimMatch, CVPR 2022, arXiv:2203.06915, and its released code: uniform
alignment, labels aggregated over the labelled memory (own share 0.9, temperature 0.1), soft targets
above 0.95, and the likeness to labelled rows as a second target (weight 1, temperature 0.1).
Departs from the paper: as `fixmatch`; the EMA teacher labels and embeds weak views; the memory
holds the newest embedding of each labelled row, a head of two layers and 64 features; the alignment
remembers about 100 batches instead of 256; the second target counts from the first step, not from
the second epoch.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.auxiliary import RepresentationSpec, Similarity
from trainables.calibrators import Align
from trainables.kept_rows import EmbeddingSpec, LabelledRows
from trainables.nearby import NeighbourMean
from trainables.objective import ConsistencyTerm
from trainables.targets import TargetSpec

METHOD = Method(
    summary="Labels agree with the classifier and with alike labelled rows.",
    source="Zheng et al., CVPR 2022, arXiv:2203.06915",
    departs="the weight average labels; fewer and smaller steps",
    search=(
        "consistency",
        "step_alignment",
        "memory",
        "representation",
        "auxiliary",
        "teacher",
        "training",
    ),
    recipe=one_round(
        ConsistencyTerm(
            labels_from="teacher",
            calibrators=(Align(),),
            targets=TargetSpec(kind="soft"),
        ),
        representation=RepresentationSpec(
            embedding=EmbeddingSpec(width=64, keep=LabelledRows()),
            refine=NeighbourMean(k=None, share=0.1, temperature=0.1),
            similarity=Similarity(weight=1.0, temperature=0.1),
        ),
    ),
)
