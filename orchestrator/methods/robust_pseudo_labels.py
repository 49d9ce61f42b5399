"""Robust pseudo-labels (RPL): a trained student adapts to the pool without a single label.

Source: Rusak et al., If your data distribution shifts, use self-learning, TMLR 2022,
arXiv:2104.12928: hard labels of the network itself at each step on the very images that
it learns, all rows, generalised cross-entropy with q = 0.8, batch statistics of the target rows,
scales and shifts of batch norm alone.
Departs from the paper: round 0 trains the source network on the labelled rows, which here come
from the pool's own distribution; the rate is 0.001, not 0.00075,
and falls by half a cosine; 200 steps of 96 rows.
"""

from orchestrator.families import adaptation
from orchestrator.method import Method
from trainables.augment import PLAIN
from trainables.losses import GeneralisedCrossEntropy
from trainables.objective import ConsistencyTerm, Objective
from trainables.selectors.fixed import Everything

METHOD = Method(
    summary="A trained student adapts its batch norm to the pool by its own labels, robustly.",
    source="Rusak et al., TMLR 2022, arXiv:2104.12928",
    departs="round 0 trains the source network; fewer steps, a falling rate",
    search=("adaptation",),
    recipe=adaptation(
        Objective(
            consistency=ConsistencyTerm(
                labels_view="strong",
                statistics="batch",
                selector=Everything(),
                loss=GeneralisedCrossEntropy(q=0.8),
            ),
            strong=PLAIN,
        )
    ),
)
