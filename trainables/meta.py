"""A step of meta pseudo labels: the student learns by drawn labels, the teacher by their effect.

Legend: b pool rows of this worker, B of the global batch, C classes.
"""

import numpy as np
import torch
from torch import Tensor

from trainables.loader import Loader, Rows
from trainables.models import batch_statistics
from trainables.partners import MetaLabels, MetaTeacher, Partner
from trainables.randomness import derive, numpy_stream, seed_device
from trainables.schedules import Moment
from trainables.step_tally import counted
from trainables.terms import StepTerms
from trainables.update import Learner, update
from trainables.worker import Terms


def meta_step(
    spec: MetaTeacher,
    partner: Partner,
    student: Learner,
    teacher: Learner,
    terms: StepTerms,
    loader: Loader,
    moment: Moment,
) -> Terms:
    """One step of both networks; their terms by name."""
    rows = loader.supervised(moment)
    if moment.share > 1 - spec.finetune:
        return update(student, rows, terms, loader, moment, name="dropout")
    pairs, worker = loader.pool_pairs(moment.step), student.worker
    num_rows = len(pairs.places)
    teacher.network.train()
    seed_device(derive(loader.seed, "teacher-dropout", moment.step, worker.rank), worker.device)
    told = teacher.log_probs(torch.cat([rows.images, pairs.weak, pairs.strong]))
    own, weak, strong = torch.split(told, [len(rows.images), len(pairs.weak), len(pairs.strong)])
    labels = draw_labels(spec, strong.detach(), num_rows, loader, moment)
    tally_drawn(terms, strong, labels, moment)
    old = labelled_loss(student, rows)
    learnt = learn_labels(student, pairs.strong, labels, num_rows, loader, moment)
    h = old - labelled_loss(student, rows)
    terms.running.tally.see_effect(h)
    partner.baseline = spec.baseline * partner.baseline + (1 - spec.baseline) * h
    advantage = max(-1.0, min(1.0, h - (partner.baseline if spec.baseline else 0.0)))
    chosen = -strong.gather(1, labels[:, None])[:, 0]
    parts = {
        "teacher_labelled": -(rows.mass * own).sum(),
        "teacher_consistency": moment.value(spec.consistency)
        * consistency_loss(spec, weak.detach(), strong)
        / num_rows,
        "teacher_meta": advantage * chosen.sum() / num_rows,
    }
    teacher.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack([*parts.values()]).sum() * worker.world)
    teacher.move()
    values = torch.stack([each.detach() for each in (learnt, *parts.values())])
    names = ("selected", *parts)
    told_terms = dict(zip(names, worker.total(values).tolist(), strict=True))
    return {"loss": told_terms["selected"], **told_terms, "teacher_h": h}


def draw_labels(
    spec: MetaLabels, log_probs: Tensor, num_rows: int, loader: Loader, moment: Moment
) -> Tensor:
    """Labels int64 [b]; draws are those of the global batch, whatever the number of workers."""
    if spec.labels == "best":
        return log_probs.argmax(dim=1)
    stream = numpy_stream(loader.seed, "meta-labels", moment.step)
    uniform = stream.random((num_rows, log_probs.shape[1]))[loader.worker.share_of(num_rows)]
    gumbel = -np.log(-np.log(np.clip(uniform, 1e-12, 1 - 1e-12)))
    return (log_probs + torch.from_numpy(gumbel).to(log_probs)).argmax(dim=1)


def tally_drawn(terms: StepTerms, log_probs: Tensor, labels: Tensor, moment: Moment) -> None:
    """Count the rows of a step that learn drawn labels; those that are not finite stand apart."""
    told = log_probs.detach().float().cpu().numpy()
    finite = np.asarray((told < np.inf).all(axis=1))
    worker = terms.loader.worker
    terms.running.tally.see(counted(told, labels.cpu().numpy(), finite, worker), moment.share)


def consistency_loss(spec: MetaLabels, weak: Tensor, strong: Tensor) -> Tensor:
    """Sum over rows of the cross-entropy of strong views to sharpened sure weak ones."""
    target = torch.softmax(weak / spec.temperature, dim=1)
    sure = weak.exp().amax(dim=1) >= spec.threshold
    return -(target * strong).sum(dim=1)[sure].sum()


def learn_labels(
    student: Learner,
    images: Tensor,
    labels: Tensor,
    num_rows: int,
    loader: Loader,
    moment: Moment,
) -> Tensor:
    """Train the student on the drawn labels; this worker's part of the mean loss."""
    student.network.train()
    device = student.worker.device
    seed_device(derive(loader.seed, "dropout", moment.step, student.worker.rank), device)
    student.optimiser.zero_grad(set_to_none=True)
    loss = -student.log_probs(images).gather(1, labels[:, None]).sum() / num_rows
    torch.autograd.backward(loss * student.worker.world)
    student.move()
    return loss.detach()


@torch.no_grad()
def labelled_loss(student: Learner, rows: Rows) -> float:
    """The student's loss on the labelled rows of all workers, without dropout.

    Batch norm reads the batch, as in training, but its running statistics stay.
    """
    with batch_statistics(student.network):
        logits = student.network(rows.images.contiguous(memory_format=torch.channels_last))
    student.network.train()
    loss = -(rows.mass * torch.log_softmax(logits.float(), dim=1)).sum()
    return float(student.worker.total(loss))
