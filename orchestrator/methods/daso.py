"""DASO: FixMatch on labels blended with likeness to class means, the more in frequent classes.

Source: Oh et al., Distribution-aware semantics-oriented pseudo-labels, CVPR 2022, arXiv:2106.05682,
and its released code: likeness by softmax(cosine / 0.05) to the means of labelled rows' features
under a weight average, a share of it by how often the class is predicted (1.5), hard labels above
0.95, and the likeness of the weak view as a target of the strong one, weight 1.
Departs from the paper: as `fixmatch`; the weight average also labels; means are over the newest
features of all labelled rows instead of 256 of each class; the blend grows over the first half of
the round instead of beginning after 5,000 steps, and the alignment acts from the start.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.auxiliary import Alignment, RepresentationSpec
from trainables.kept_rows import EmbeddingSpec, LabelledRows
from trainables.nearby import PrototypeBlend
from trainables.objective import ConsistencyTerm
from trainables.schedules import Linear

METHOD = Method(
    summary="Labels blended with likeness to class means, the more in frequent classes.",
    source="Oh et al., CVPR 2022, arXiv:2106.05682",
    departs="the weight average labels; a gradual start; fewer and smaller steps",
    search=("consistency", "memory", "representation", "auxiliary", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(labels_from="teacher"),
        representation=RepresentationSpec(
            embedding=EmbeddingSpec(width=0, keep=LabelledRows()),
            refine=PrototypeBlend(
                temperature=0.05,
                class_temperature=1.5,
                share=Linear(start=0.0, end=1.0, until=0.5, over="steps"),
            ),
            alignment=Alignment(weight=1.0, temperature=0.05),
        ),
    ),
)
