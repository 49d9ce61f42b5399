"""The pool rows of a step: weak views are labelled, strong views are trained on.

Legend: b rows of this worker, B rows of the global batch, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainables.auxiliary import Known
from trainables.beliefs import Beliefs
from trainables.heads import Outputs, outputs_of
from trainables.kept_rows import KeptRows
from trainables.loader import DEBIASING, POOL, Loader, Pairs, Rows
from trainables.models import batch_statistics
from trainables.nearby import refined
from trainables.neighbours import Bank
from trainables.objective import ConsistencyTerm, Objective, mixed
from trainables.pool_mixing import AnchorMix, PairMix
from trainables.pseudo_labels import PseudoLabels, StepRows, fit_in_step
from trainables.randomness import numpy_stream
from trainables.schedules import Moment
from trainables.selectors.rules import Labelled
from trainables.selectors.running import Running
from trainables.step_tally import counted
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
    known: Known | None = None
    """What auxiliary terms read of them; None without labels or a representation."""


@dataclass(frozen=True)
class _Told:
    """What the labelling network says about images [b, C, H, W]."""

    beliefs: Beliefs
    embedding: np.ndarray
    """Float32 [b, E]; [b, 0] without an embedding."""


@torch.no_grad()
def label_pool(
    goal: Objective,
    network: nn.Module,
    running: Running,
    kept: KeptRows | None,
    loader: Loader,
    moment: Moment,
) -> PoolRows:
    """Label this step's pool rows by ``network``; takes them into the running statistics.

    Also into the kept rows, where the objective has an embedding.
    """
    term, worker = goal.consistency, loader.worker
    assert term is not None  # noqa: S101 - the caller checked
    pairs, num_rows = loader.pool_pairs(moment.step), loader.pool_rows
    own = _labelled_rows(goal, network, loader, moment)
    labelled = Labelled(loader.data.class_rows(loader.num_classes))
    if own is not None:
        labelled = _take_in(own, labelled, kept, loader)
    told = _told(term, network, pairs)
    bank = kept.bank() if kept is not None else None
    refine = _refinement(goal, moment, told.embedding, bank, running)
    now, rows = moment.settings(term), StepRows(told.beliefs, pairs.places, refine)
    step = fit_in_step(now.calibrators, now.selector, now.targets, rows, running, labelled, worker)
    if kept is not None:
        probs = worker.gather(np.exp(step.calibrated.log_probs), num_rows)
        kept.see_pool(worker.gather(told.embedding, num_rows), probs)
    weight, found = moment.value(term.weight), step.of_rows(told.beliefs)
    counts = counted(told.beliefs.log_probs, found.labels, found.accepted, worker)
    running.tally.see(counts, moment.share)
    running.tally.see_thresholds(step.labeller.rule.thresholds())
    strong, num_accepted = pairs.strong, float(counts.accepted.sum())
    if term.mix is not None:
        found, strong = _mixed(term.mix, found, pairs, loader, moment)
        num_accepted = _of_all(found.accepted, worker)
    trained = _rows(term, found, strong, (POOL, weight), num_rows, worker)
    if term.debias and own is not None:
        theirs, back = step.labeller.of(own.told.beliefs), (DEBIASING, -weight)
        again = _rows(term, theirs, own.pairs.strong, back, len(own.labels), worker)
        trained = trained.joined(again)
    accepted = torch.from_numpy(found.accepted).to(worker.device)
    share = num_accepted / num_rows
    if goal.representation is None:
        return PoolRows(trained, accepted, share)
    keys = None
    if goal.representation.reads_keys:
        keys = _outputs(term, network, loader.second_view(moment.step)).embedding
    last = running.last_confidences()
    known = Known(step.calibrated, step.seen, told.embedding, bank, keys, last, num_rows)
    return PoolRows(trained, accepted, share, known)


def unlabelled_pool(num_classes: int, loader: Loader, moment: Moment) -> PoolRows:
    """This step's pool rows without a label, for terms that read predictions alone."""
    strong = loader.pool_pairs(moment.step).strong
    mass = torch.zeros(len(strong), num_classes, device=strong.device)
    term_of = torch.full((len(strong),), POOL, dtype=torch.int64)
    return PoolRows(Rows(strong, mass, term_of), torch.zeros(len(strong), dtype=torch.bool), 0.0)


@dataclass(frozen=True)
class _Own:
    """The labelled rows of a step, told by the network that labels the pool rows."""

    pairs: Pairs
    labels: np.ndarray
    """Of the global batch, int64 [B]."""
    told: _Told


def _labelled_rows(
    goal: Objective, network: nn.Module, loader: Loader, moment: Moment
) -> _Own | None:
    """The step's labelled rows, if anything reads what the network says about them."""
    term = goal.consistency
    reads = goal.representation is not None and goal.representation.reads_labelled
    if term is None or not (reads or term.needs_labelled):
        return None
    pairs, labels = loader.labelled_pairs(moment.step)
    return _Own(pairs, labels, _told(term, network, pairs))


def _take_in(own: _Own, labelled: Labelled, kept: KeptRows | None, loader: Loader) -> Labelled:
    """What selectors may know of the labelled rows; the kept rows take them in."""
    worker, num_rows = loader.worker, len(own.labels)
    if kept is not None:
        near = worker.gather(own.told.embedding, num_rows)
        kept.see_labelled(own.pairs.places, own.labels, near, len(loader.data.labelled))
    everyone = worker.gather(own.told.beliefs.log_probs, num_rows)
    beliefs = Beliefs.of_log_probs([""] * num_rows, everyone)
    return Labelled(labelled.class_rows, beliefs, own.labels)


def _refinement(
    goal: Objective, moment: Moment, embedding: np.ndarray, bank: Bank | None, running: Running
) -> Callable[[Beliefs], Beliefs] | None:
    """What stands between the calibrators and the selector in this step."""
    spec = goal.representation
    if spec is None or spec.refine is None or bank is None:
        return None
    by, shares = moment.settings(spec.refine), running.label_shares()
    return lambda seen: refined(by, seen, embedding, bank, shares)


def _told(term: ConsistencyTerm, network: nn.Module, pairs: Pairs) -> _Told:
    """What a network says about a worker's rows, in the view that the term has labelled."""
    found = _outputs(term, network, pairs.weak if term.labels_view == "weak" else pairs.strong)
    log_probs = found.log_probs.cpu().numpy()
    embedding = found.embedding.cpu().numpy() if "embedding" in found.heads else log_probs[:, :0]
    return _Told(Beliefs.of_log_probs([""] * len(log_probs), log_probs), embedding)


def _outputs(term: ConsistencyTerm, network: nn.Module, images: Tensor) -> Outputs:
    """What a network, in evaluation mode, says about a worker's images [b, C, H, W]."""
    if term.statistics == "batch":
        with batch_statistics(network):
            return outputs_of(network, images)
    was_training = network.training
    network.eval()
    found = outputs_of(network, images)
    network.train(was_training)
    return found


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


def _of_all(accepted: np.ndarray, worker: Worker) -> float:
    """How many rows of all workers are accepted."""
    return float(worker.total(torch.tensor(float(accepted.sum()), device=worker.device)))


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
