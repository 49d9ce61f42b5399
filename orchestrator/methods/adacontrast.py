"""AdaContrast: labels of the ten nearest rows, contrast without negatives of the same label.

Source: Chen et al., Contrastive test-time adaptation, CVPR 2022, arXiv:2204.10377, and its released
code: labels are the mean over the ten nearest rows that a momentum network keeps, all count; it
gives the keys of a contrast at temperature 0.07; balanced mean predictions; weights 1.
Departs from the paper: the first round trains on labelled rows and the second starts from it, with
labelled rows and their loss still there, so it is no adaptation without a source; the momentum
network, of decay 0.99, also asks for neighbours; the memory begins empty and holds 4,096 rows;
balance is the divergence from equal shares; negatives are kept weak views, spared by the label that
the network gave them before neighbours corrected it; strong views are those of `fixmatch`.
"""

from orchestrator.method import Method
from orchestrator.recipe import Recipe, RoundPolicy
from trainables.auxiliary import Contrast, RepresentationSpec
from trainables.batches import BatchPlan
from trainables.kept_rows import EmbeddingSpec, LatestRows
from trainables.nearby import NeighbourMean
from trainables.objective import BalanceTerm, ConsistencyTerm, Objective
from trainables.optimiser import OptimiserSpec
from trainables.selectors.fixed import Everything
from trainables.student import StepCount, TrainingSpec
from trainables.teachers import ExponentialAverage

METHOD = Method(
    summary="Labels of the nearest rows, and contrast that spares rows of the same label.",
    source="Chen et al., CVPR 2022, arXiv:2204.10377",
    departs="labelled rows stay; one memory for labels and negatives; fewer steps",
    search=("consistency", "representation", "auxiliary", "balance", "teacher", "training"),
    recipe=Recipe(
        training=TrainingSpec(
            steps=StepCount(first_round=600, base=600),
            batch=BatchPlan(labelled=32, selected=0, pool=128),
            objective=Objective(
                consistency=ConsistencyTerm(
                    first_round=1, labels_from="teacher", selector=Everything()
                ),
                balance=BalanceTerm(weight=1.0, rows="unlabelled"),
                representation=RepresentationSpec(
                    embedding=EmbeddingSpec(width=0, keep=LatestRows(rows=4096, labelled=False)),
                    refine=NeighbourMean(k=10, share=1.0, temperature=None),
                    contrast=Contrast(weight=1.0, temperature=0.07),
                ),
            ),
            optimiser=OptimiserSpec(learning_rate=0.06),
            teacher=ExponentialAverage(decay=0.99),
        ),
        policy=RoundPolicy(num_rounds=2, start="warm", label_last=False),
    ),
)
