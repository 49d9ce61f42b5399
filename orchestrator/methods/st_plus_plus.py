"""ST++: the reliable half of the pool first, then the rest with labels of the better student.

Source: Yang et al., ST++, CVPR 2022, arXiv:2106.05095, as released: the teacher at a third and at
two thirds of its training is kept; rows on whose label they agree with the final one are reliable;
half of the pool, the most reliable rows, teaches the next student, which labels the rest; restart
each time, strong views of pseudo-labelled rows.
Departs from the paper: images instead of pixels, so equal classes instead of the overlap of masks;
rows of equal agreement are ordered by confidence; an EMA is kept and labels.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.combining import First
from trainables.schedules import Stepwise
from trainables.selectors.fixed import TopShare

METHOD = Method(
    summary="Rows on whose label earlier checkpoints agree come first, then the rest.",
    source="Yang et al., CVPR 2022, arXiv:2106.05095",
    departs="classes instead of masks; confidence orders equal rows",
    search=("checkpoints", "curriculum", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(checkpoints=(1 / 3, 2 / 3), combine=First()),
        mixup=0.0,
        ranking="agreement",
        selector=TopShare(share=Stepwise(values=(0.5, 1.0))),
        policy=RoundPolicy(num_rounds=3, start="restart", pool="keep", label_last=False),
    ),
)
