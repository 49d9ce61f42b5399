"""ShrinkMatch: unsure rows teach a second classifier among the classes in which they are sure.

Source: Yang et al., ShrinkMatch, ICCV 2023, arXiv:2308.06777, and its released code: FixMatch with
soft targets of aligned labels above 0.95; below it the runners-up are dropped until the first class
reaches 0.95 of what is left, for a second classifier of three layers, by confidence times the
share of sure rows.
Departs from the paper: as `fixmatch`; the share of sure rows is that of the last hundred batches;
the second classifier is as wide as the features and has no batch norm.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.auxiliary import RepresentationSpec, Shrunk
from trainables.calibrators import Align
from trainables.objective import ConsistencyTerm
from trainables.targets import TargetSpec

METHOD = Method(
    summary="FixMatch; unsure rows teach a second classifier among fewer classes.",
    source="Yang et al., ICCV 2023, arXiv:2308.06777",
    departs="the share of sure rows is over the last batches; fewer and smaller steps",
    search=("consistency", "step_alignment", "memory", "auxiliary", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(calibrators=(Align(),), targets=TargetSpec(kind="soft")),
        representation=RepresentationSpec(shrunk=Shrunk(threshold=0.95)),
    ),
)
