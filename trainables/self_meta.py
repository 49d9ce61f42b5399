"""A step of self meta pseudo labels: one network learns by its own labels, then judges them.

Legend: b pool rows of this worker, B of the global batch, C classes.
"""

import torch

from trainables.loader import Loader
from trainables.meta import (
    consistency_loss,
    draw_labels,
    labelled_loss,
    learn_labels,
    tally_drawn,
)
from trainables.partners import SelfMeta
from trainables.randomness import derive, seed_device
from trainables.schedules import Moment
from trainables.terms import StepTerms
from trainables.update import Learner, update
from trainables.worker import Terms


def self_meta_step(
    spec: SelfMeta, student: Learner, terms: StepTerms, loader: Loader, moment: Moment
) -> Terms:
    """Both optimiser steps of one training step; terms by name."""
    rows = loader.supervised(moment)
    if moment.share > 1 - spec.finetune:
        return update(student, rows, terms, loader, moment, name="dropout")
    pairs, worker = loader.pool_pairs(moment.step), student.worker
    num_rows = len(pairs.places)
    with torch.no_grad():
        _train_mode(student, loader, moment, "label-dropout")
        own = student.log_probs(pairs.strong)
    labels = draw_labels(spec, own, num_rows, loader, moment)
    tally_drawn(terms, own, labels, moment)
    old = labelled_loss(student, rows)
    learnt = learn_labels(student, pairs.strong, labels, num_rows, loader, moment)
    fall = max(-1.0, min(1.0, old - labelled_loss(student, rows)))
    h = fall if spec.sign == "derived" else -fall
    terms.running.tally.see_effect(h)
    _train_mode(student, loader, moment, "second-dropout")
    told = student.log_probs(torch.cat([rows.images, pairs.weak, pairs.strong]))
    known, weak, strong = torch.split(told, [len(rows.images), len(pairs.weak), len(pairs.strong)])
    weight = moment.value(spec.consistency)
    parts = {
        "labelled": -(rows.mass * known).sum(),
        "consistency": weight * consistency_loss(spec, weak.detach(), strong) / num_rows,
        "meta": -h * strong.gather(1, labels[:, None]).sum() / num_rows,
    }
    student.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack([*parts.values()]).sum() * worker.world)
    student.move()
    values = torch.stack([each.detach() for each in (learnt, *parts.values())])
    names = ("selected", *parts)
    found = dict(zip(names, worker.total(values).tolist(), strict=True))
    return {"loss": sum(found.values()), **found, "h": h}


def _train_mode(student: Learner, loader: Loader, moment: Moment, name: str) -> None:
    """Training mode with the dropout of this pass."""
    student.network.train()
    worker = student.worker
    seed_device(derive(loader.seed, name, moment.step, worker.rank), worker.device)
