"""Mixture threshold: by class, accept from where the surer of two Gaussian components begins.

Source: Wang et al., Consistent-Teacher, CVPR 2023, arXiv:2209.01589, section 3.3 (Gaussian mixture
thresholds), on the stored table.
Departs from the paper: all rows of a class once a round instead of a queue at every step; the
rounds are those of the house default, since the paper's are for detection.
"""

from orchestrator.method import Method
from orchestrator.methods import default
from trainables.selectors.adaptive import MixtureThreshold

METHOD = Method(
    summary="By class, rows from where the surer of two Gaussian components begins.",
    source="Wang et al., CVPR 2023, arXiv:2209.01589",
    departs="fitted on the table; rounds of the house default",
    search=("mixture_threshold", "policy", "rounds", "teacher", "training"),
    recipe=default.METHOD.recipe.model_copy(update={"selector": MixtureThreshold()}),
)
