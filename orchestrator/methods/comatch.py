"""CoMatch: labels smoothed over a memory of rows; rows that are likely of one class attract.

Source: Li et al., CoMatch, ICCV 2021, arXiv:2011.11183, and its released code: uniform alignment,
labels smoothed over the rows of the last five batches (own share 0.9, temperature 0.2), soft
targets above 0.95, a second strong view, the graph of labels (cut 0.8) as the target of that of 64
features, weight 1.
Departs from the paper: as `fixmatch`; smoothing begins with the first rows that are kept;
the alignment remembers about 100 batches instead of 32.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.auxiliary import Graph, RepresentationSpec
from trainables.calibrators import Align
from trainables.kept_rows import EmbeddingSpec, LatestRows
from trainables.nearby import NeighbourMean
from trainables.objective import ConsistencyTerm
from trainables.targets import TargetSpec

METHOD = Method(
    summary="Labels smoothed over a memory; rows likely of one class attract each other.",
    source="Li et al., ICCV 2021, arXiv:2011.11183",
    departs="no wait before smoothing; fewer and smaller steps",
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
        ConsistencyTerm(calibrators=(Align(),), targets=TargetSpec(kind="soft")),
        representation=RepresentationSpec(
            embedding=EmbeddingSpec(width=64, keep=LatestRows(rows=800)),
            refine=NeighbourMean(k=None, share=0.1, temperature=0.2),
            graph=Graph(weight=1.0, temperature=0.2, cut=0.8),
        ),
    ),
)
