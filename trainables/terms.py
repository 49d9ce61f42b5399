"""The terms of one step's loss, from log-probabilities of the rows that were trained on.

Row terms are sums over rows. Penalties are functions of the *global* batch's mean prediction: each
worker adds the part of the gradient that goes through its own rows.

Legend: b rows of this worker, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.consistency import PoolRows
from trainables.heads import rows_where
from trainables.loader import DEBIASING, LABELLED, POOL, SELECTED, Loader
from trainables.losses import balance_penalty, entropy_rows, fairness_penalty
from trainables.objective import Objective, annealed, annealing_bound
from trainables.schedules import Moment
from trainables.selectors.running import Running
from trainables.worker import Worker


@dataclass(frozen=True)
class StepTerms:
    """The terms of a step."""

    goal: Objective
    running: Running
    loader: Loader
    moment: Moment
    pool: PoolRows | None

    def of(self, log_probs: Tensor, mass: Tensor, term: Tensor) -> dict[str, Tensor]:
        """Terms by name, each a scalar; log_probs, mass [b, C], the rows' terms [b] on the CPU."""
        found = self._row_terms(log_probs, self._annealed(log_probs, mass, term), term)
        if self.goal.entropy is not None:
            mine = rows_where(_counted(self.goal.entropy.rows, term), log_probs)
            weight = self.moment.value(self.goal.entropy.weight)
            found["entropy"] = entropy_rows(mine).sum() * weight / self._num(self.goal.entropy.rows)
        if self.goal.balance is not None:
            found["balance"] = self._balance(log_probs, term)
        if self.pool is not None and self.goal.consistency and self.goal.consistency.fairness != 0:
            found["fairness"] = self._fairness(rows_where(term == POOL, log_probs), self.pool)
        return found

    def _row_terms(self, log_probs: Tensor, mass: Tensor, term: Tensor) -> dict[str, Tensor]:
        losses = [
            ("labelled", LABELLED, self.goal.labelled.loss),
            ("selected", SELECTED, self.goal.selected.loss),
        ]
        if self.goal.consistency is not None:
            losses.append(("consistency", POOL, self.goal.consistency.loss))
        term = torch.where(term == DEBIASING, POOL, term)
        found = {}
        for name, number, loss in losses:
            mine = term == number
            told, wanted = rows_where(mine, log_probs), rows_where(mine, mass)
            found[name] = loss.rows(told, wanted).sum()
        return found

    def _annealed(self, log_probs: Tensor, mass: Tensor, term: Tensor) -> Tensor:
        kind = self.goal.labelled.anneal
        if kind == "none":
            return mass
        bound = annealing_bound(kind, self.moment.share, log_probs.shape[1])
        labelled = (term == LABELLED).to(mass.device)
        return torch.where(labelled[:, None], annealed(log_probs, mass, bound), mass)

    def _balance(self, log_probs: Tensor, term: Tensor) -> Tensor:
        goal = self.goal.balance
        assert goal is not None  # noqa: S101 - the caller checked
        target = torch.full_like(log_probs[0], 1 / log_probs.shape[1])
        if goal.target == "labelled":
            rows = torch.from_numpy(self.loader.data.class_rows(log_probs.shape[1]))
            target = (rows / rows.sum()).to(target)
        probs = rows_where(_counted(goal.rows, term), log_probs).exp()
        value = penalty(probs, self.loader.worker, lambda mean: balance_penalty(mean, target))
        return self.moment.value(goal.weight) * value

    def _fairness(self, log_probs: Tensor, pool: PoolRows) -> Tensor:
        goal, worker = self.goal.consistency, self.loader.worker
        assert goal is not None  # noqa: S101 - the caller checked
        probs = log_probs[pool.accepted].exp()
        counts = torch.bincount(probs.argmax(dim=1), minlength=probs.shape[1]).to(probs)
        counts = worker.total(counts)
        shares = counts / counts.sum().clamp_min(1.0)
        predicted = self.running.label_shares()
        seen = predicted > 0  # classes that were never predicted have no say
        ratio = np.where(seen, self.running.shares() / np.where(seen, predicted, 1), 0)
        expected = torch.from_numpy(ratio / max(1e-12, ratio.sum())).to(shares)
        value = penalty(probs, worker, lambda mean: fairness_penalty(mean, shares, expected))
        return self.moment.value(goal.fairness) * value

    def _num(self, rows: str) -> int:
        """Rows of the global batch that `_counted` finds."""
        loader = self.loader
        unlabelled = loader.pool_rows + (loader.plan.selected if loader.data.selected else 0)
        return sum(loader.rows_by_source()) if rows == "all" else max(1, unlabelled)


def penalty(probs: Tensor, worker: Worker, of: Callable[[Tensor], Tensor]) -> Tensor:
    """This worker's part of a penalty on the mean over all workers' rows [b, C]; a scalar.

    Summed over workers, values and gradients are those of ``of(mean of all rows)``.
    """
    rows = worker.total(torch.tensor(float(len(probs)), device=probs.device))
    mean = worker.total(probs.detach().sum(dim=0)) / rows.clamp_min(1.0)
    if not float(rows):
        return probs.sum()
    with torch.enable_grad():
        value = of(mean.requires_grad_())
        (slope,) = torch.autograd.grad(value, mean)
    through = (probs.sum(dim=0) * slope).sum() / rows
    return through - through.detach() + value.detach() * (len(probs) / float(rows))


def _counted(rows: str, term: Tensor) -> Tensor:
    if rows == "all":
        return term <= DEBIASING  # further views belong to auxiliary terms alone
    return (term == SELECTED) | (term == POOL)
