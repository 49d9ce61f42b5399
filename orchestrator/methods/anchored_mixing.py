"""Anchored mixing: every pool row is blended with a row whose label is trusted, in one round.

Source: house method after Zhong et al., OpenMix, CVPR 2021: pool rows are made credible by blending
them with labelled rows, later with reliable anchors of the pool (confidence 0.9) as well.
Departs from the paper: it discovers new classes beside known ones, so its halves never share a
class; here one label space holds both. Its numbers are not public: Beta(1, 1), the labelled share
at least half, anchors from the middle of the round, the weight rising over the first fifth.
"""

from orchestrator.families import one_round
from orchestrator.method import Method
from trainables.objective import ConsistencyTerm
from trainables.pool_mixing import AnchorMix
from trainables.schedules import Linear
from trainables.selectors.fixed import Threshold
from trainables.targets import TargetSpec

METHOD = Method(
    summary="Every pool row is blended with a labelled row, later with sure pool rows as well.",
    source="house method after OpenMix, Zhong et al., CVPR 2021",
    departs="one label space instead of old and new classes; house numbers",
    search=("consistency", "mixing", "ramp", "teacher", "training"),
    recipe=one_round(
        ConsistencyTerm(
            weight=Linear(start=0.0, end=1.0, until=0.2, over="steps"),
            selector=Threshold(threshold=0.9),
            targets=TargetSpec(kind="soft"),
            mix=AnchorMix(),
        )
    ),
)
