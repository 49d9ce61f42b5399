"""UPS, positive labels: sure rows on which passes with dropout agree.

Source: Rizve et al., In defense of pseudo-labeling, ICLR 2021, arXiv:2101.06329, equation 5: ten
passes with dropout 0.3, confidence at least 0.7, standard deviation below 0.05, a restart each
round.
Departs from the paper: no negative labels and no class balance in the first rounds; deviations are
the population's; four rounds instead of twenty; trained as the house default is: mixup 0.5, an
average of weights labels.
"""

from orchestrator.families import warm_rounds
from orchestrator.method import Method
from orchestrator.recipe import LabellingSpec, RoundPolicy
from trainables.filters import Spread
from trainables.selectors.fixed import Threshold

METHOD = Method(
    summary="Sure rows on which ten passes with dropout agree.",
    source="Rizve et al., ICLR 2021, arXiv:2101.06329",
    departs="no negative labels; fewer rounds",
    search=("dropout", "filters", "selection", "policy", "rounds", "teacher", "training"),
    recipe=warm_rounds(
        labelling=LabellingSpec(passes=10),
        dropout=0.3,
        filters=(Spread(most=0.05),),
        selector=Threshold(threshold=0.7),
        policy=RoundPolicy(start="restart", num_rounds=4),
    ),
)
