"""The pool rows of a step: weak views are labelled, strong views are trained on.

Legend: b rows of this worker, B rows of the global batch, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.beliefs import Beliefs
from trainables.loader import DEBIASING, POOL, Loader, Pairs, Rows
from trainables.models import batch_statistics
from trainables.objective import ConsistencyTerm, mixed
from trainables.pool_mixing import AnchorMix, PairMix
from trainables.pseudo_labels import PseudoLabels, StepRows, fit_in_step
from trainables.randomness import numpy_stream
from trainables.schedules import Moment
from trainables.selectors.rules import Labelled
from trainables.selectors.running import Running
from trainables.worker import Worker


@dataclass(frozen=True)
class PoolRows:
    """The pool rows of a step, labelled."""

    rows: Rows
    """Strong views of this worker's rows, and of its labelled rows if the term is debiased."""
    accepted: Tensor
    """Which of the pool rows count, bool [b]."""
    accepted_share: float
    """Share of the global batch that counts."""


@torch.no_grad()
def label_pool(
    term: ConsistencyTerm, network: nn.Module, running: Running, loader: Loader, moment: Moment
) -> PoolRows:
    """Label this step's pool rows by ``network``; takes them into the running statistics."""
    worker, pairs = loader.worker, loader.pool_pairs(moment.step)
    labelled = Labelled(loader.data.class_rows(loader.num_classes))
    own_pairs = own_told = None
    if term.needs_labelled:
        own_pairs, labels = loader.labelled_pairs(moment.step)
        own_told = _told(term, network, own_pairs)
        everyone = worker.gather(own_told.log_probs, len(labels))
        beliefs = Beliefs.of_log_probs([""] * len(labels), everyone)
        labelled = Labelled(labelled.class_rows, beliefs, labels)
    rows = StepRows(_told(term, network, pairs), pairs.places)
    now = moment.settings(term)
    labeller = fit_in_step(
        now.calibrators, now.selector, now.targets, rows, running, labelled, worker
    )
    weight, device = moment.value(term.weight), worker.device
    found, strong = labeller.of(rows.told), pairs.strong
    if term.mix is not None:
        found, strong = _mixed(term.mix, found, pairs, loader, moment)
    trained = _rows(term, found, strong, (POOL, weight), len(pairs.places), worker)
    if term.debias and own_pairs is not None and own_told is not None:
        own = labeller.of(own_told)
        back = _rows(
            term, own, own_pairs.strong, (DEBIASING, -weight), len(own_pairs.places), worker
        )
        trained = trained.joined(back)
    accepted = torch.from_numpy(found.accepted).to(device)
    share = float(worker.total(accepted.sum().float())) / len(pairs.places)
    return PoolRows(trained, accepted, share)


def unlabelled_pool(num_classes: int, loader: Loader, moment: Moment) -> PoolRows:
    """This step's pool rows without a label, for terms that read predictions alone."""
    strong = loader.pool_pairs(moment.step).strong
    mass = torch.zeros(len(strong), num_classes, device=strong.device)
    term_of = torch.full((len(strong),), POOL, dtype=torch.int64)
    return PoolRows(Rows(strong, mass, term_of), torch.zeros(len(strong), dtype=torch.bool), 0.0)


def _told(term: ConsistencyTerm, network: nn.Module, pairs: Pairs) -> Beliefs:
    """What a network, in evaluation mode, believes about a worker's rows [b]."""
    images = pairs.weak if term.labels_view == "weak" else pairs.strong
    images = images.contiguous(memory_format=torch.channels_last)
    was_training = network.training
    if term.statistics == "batch":
        with batch_statistics(network):
            logits = network(images)
    else:
        network.eval()
        logits = network(images)
    network.train(was_training)
    log_probs = torch.log_softmax(logits.float(), dim=1).cpu().numpy()
    return Beliefs.of_log_probs([""] * len(log_probs), log_probs)


def _mixed(
    mix: PairMix | AnchorMix, own: PseudoLabels, pairs: Pairs, loader: Loader, moment: Moment
) -> tuple[PseudoLabels, Tensor]:
    """This worker's labels and strong views, blended with those of their partners."""
    worker, num_rows = loader.worker, len(pairs.places)
    told = PseudoLabels(*(worker.gather(value, num_rows) for value in vars(own).values()))
    stream = numpy_stream(loader.seed, "pool-mix", moment.step)
    labels = loader.labels(moment.step)
    plan = mix.mixture(told, labels, stream, moment.share)
    mine = worker.share_of(num_rows)
    partners, labelled = plan.partners[mine], plan.labelled[mine]
    others = torch.empty_like(pairs.strong)
    for views, rows in ((loader.labelled_views, labelled), (loader.pool_views, ~labelled)):
        if rows.any():
            others[torch.from_numpy(rows)] = views(moment.step, partners[rows])
    share = torch.from_numpy(plan.share[mine]).to(pairs.strong)
    blended = PseudoLabels(*(value[mine] for value in vars(plan.found).values()))
    return blended, mixed(pairs.strong, others, share)


def _rows(
    term: ConsistencyTerm,
    labels: PseudoLabels,
    strong: Tensor,
    counted_as: tuple[int, float],
    num_rows: int,
    worker: Worker,
) -> Rows:
    """Strong views with the mass that their labels give; ``num_rows`` in the global batch.

    ``counted_as`` is what the rows are trained as, and the weight of the term.
    """
    owner, weight = counted_as
    mass = torch.from_numpy(labels.mass()).to(strong.device)
    whole = torch.tensor(float(num_rows))
    if term.normalise != "all":
        counted = labels.accepted if term.normalise == "selected" else labels.weights
        whole = worker.total(torch.tensor(float(counted.sum()), device=strong.device))
        whole = whole.clamp_min(1.0 if term.normalise == "selected" else 1e-12)
    term_of = torch.full((len(strong),), owner, dtype=torch.int64)
    return Rows(strong, mass * (weight / whole.to(mass)), term_of)
