"""Rotation consistency: pseudo-labels move the classifier, clean tasks move the features.

Source: house method after the abstract of RDCR (rotation as an auxiliary task whose labels are
clean, features decoupled from noisy labels, consistency); nothing further of it is public.
Departs from the paper: unknown in what; here the EMA teacher's labels above 0.8 teach strong views,
a head tells by how many quarters a weak view was turned (weight 1), and in the second half of the
round pseudo-labels move the classifier alone. Not for images that look alike when they are turned.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.auxiliary import RepresentationSpec, Turns
from trainables.objective import ConsistencyTerm
from trainables.selectors.fixed import Threshold

METHOD = Method(
    summary="Turned views as a clean task for features; late pseudo-labels move the classifier.",
    source="house method after RDCR's abstract",
    departs="a reconstruction from an abstract",
    search=("consistency", "auxiliary", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(labels_from="teacher", selector=Threshold(threshold=0.8)),
        representation=RepresentationSpec(turns=Turns(weight=1.0, apart_from=0.5)),
    ),
)
