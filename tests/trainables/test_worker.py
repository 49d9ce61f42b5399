"""What workers tell each other: nothing is lost, doubled or put out of order."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.selectors.pools import pool
from tests.trainables.two_workers import as_two_workers
from trainables.losses import balance_penalty
from trainables.pool_mean import PoolMean, pool_mean
from trainables.terms import penalty
from trainables.worker import Worker

SIZES = (1, 2, 7)
"""Rows of the global batch; with one row the second worker has none."""


def rows_of(num: int) -> dict[str, np.ndarray]:
    """Rows of the kinds that a step gathers."""
    beliefs = pool(num, num)
    log_probs = beliefs.log_probs.copy()
    log_probs[0, :2] = np.nan, -np.inf
    return {"labels": beliefs.labels - 1, "confidence": beliefs.confidence, "logs": log_probs}


def test_one_worker_is_all_workers():
    worker = Worker()
    assert worker.share_of(5).tolist() == [0, 1, 2, 3, 4]
    value = torch.tensor([1.0, 2.0])
    assert torch.equal(worker.total(value), value)
    mean = pool_mean(pool(0, 9))
    assert worker.total_mean(mean) == mean
    assert worker.together(value, 2) is value
    for value in rows_of(7).values():
        assert np.array_equal(worker.gather(value, 7), value, equal_nan=True)


def test_workers_hold_every_other_row():
    assert Worker(0, 2).share_of(5).tolist() == [0, 2, 4]
    assert Worker(1, 2).share_of(5).tolist() == [1, 3]
    assert Worker(1, 2).share_of(1).tolist() == []


def _agree(worker: Worker, folder: Path) -> None:
    """Everything that two workers must agree on."""
    del folder
    rank = worker.rank
    own = torch.tensor([rank + 1.0, 10.0])
    assert worker.total(own).tolist() == [3, 20]
    assert own.tolist() == [rank + 1, 10], "what was given is not changed"
    for num in SIZES:
        mine = worker.share_of(num)
        for name, value in rows_of(num).items():
            found = worker.gather(value[mine], num)
            assert found.dtype == value.dtype, name
            assert np.array_equal(found, value, equal_nan=True), (name, num)
        whole = pool(num, num)
        halves = type(whole).of_log_probs([""] * len(mine), whole.log_probs[mine])
        found = worker.total_mean(pool_mean(halves))
        assert found.rows == num
        assert found.mass.tolist() == pool_mean(whole).mass.tolist()
        _penalties_agree(worker, torch.from_numpy(whole.log_probs), mine)
        _rows_are_put_together(worker, torch.from_numpy(whole.log_probs), mine)
    large = PoolMean(2**32, np.full(3, 2**61 + rank))
    assert worker.total_mean(large).mass.tolist() == [2**62 + 1] * 3, "sums are whole numbers"


def _penalties_agree(worker: Worker, log_probs: torch.Tensor, mine: np.ndarray) -> None:
    """Two workers' parts of a penalty add up to the penalty of all rows, and so do gradients."""
    target = torch.tensor([0.5, 0.3, 0.2])
    plain, own = log_probs.clone().requires_grad_(), log_probs[mine].requires_grad_()
    expected = balance_penalty(plain.exp().mean(0), target)
    part = penalty(own.exp(), worker, lambda mean: balance_penalty(mean, target))
    expected.backward()
    part.backward()
    assert worker.total(part.detach()).item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.allclose(own.grad, plain.grad[mine], atol=1e-6)


def _rows_are_put_together(worker: Worker, log_probs: torch.Tensor, mine: np.ndarray) -> None:
    """Every worker holds all rows; gradients are those of its own."""
    plain, own = log_probs.clone().requires_grad_(), log_probs[mine].requires_grad_()
    whole = worker.together(own, len(log_probs))
    assert torch.equal(whole, log_probs)
    (whole @ whole.T).square().sum().backward()
    (plain @ plain.T).square().sum().backward()
    assert torch.allclose(own.grad, plain.grad[mine], rtol=1e-4)


@pytest.mark.slow
def test_two_workers_know_what_one_would(tmp_path, monkeypatch):
    as_two_workers(_agree, tmp_path, monkeypatch)
