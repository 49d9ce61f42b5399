"""A training worker, and what workers tell each other beside gradients.

Legend: b rows of this worker, B rows of all workers together.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainables.pool_mean import PoolMean

Terms = dict[str, float | Tensor]
"""Values of a step's terms by name, ``loss`` among them; scalars on a GPU need not be there yet."""


@dataclass(frozen=True)
class Worker:
    """One of the processes that train together, and how it holds its rows."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rows_per_pass: int = 0
    """Most rows in one forward pass; more are accumulated. 0 means all at once."""

    def share_of(self, num_rows: int) -> np.ndarray:
        """Positions of a global batch of ``num_rows`` that this worker holds, int64 [b]."""
        return np.arange(self.rank, num_rows, self.world)

    def total(self, value: Tensor) -> Tensor:
        """The sum of a value over all workers."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def totals(self, parts: dict[str, Tensor]) -> Terms:
        """Each part summed over all workers, float64, and as ``loss`` the sum of them all."""
        found = self.total(torch.stack([*parts.values()])).double()
        return {"loss": found.sum(), **dict(zip(parts, found.unbind(), strict=True))}

    @torch.no_grad()
    def agree(self, network: nn.Module) -> None:
        """Give every worker's batch norm the mean of all workers' running statistics, in place.

        GPUs share their batches' statistics already (`trainables.models.synchronised`).
        """
        if self.world == 1 or self.device.type == "cuda":
            return
        norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        running = [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]
        if not running:
            return
        means = self.total(torch.cat([b.flatten() for b in running])) / self.world
        parts = torch.split(means, [b.numel() for b in running])
        for own, mean in zip(running, parts, strict=True):
            own.copy_(mean.view_as(own))

    def total_mean(self, mean: PoolMean) -> PoolMean:
        """The mean over the rows of all workers, exactly."""
        if self.world == 1:
            return mean
        sums = torch.from_numpy(np.append(mean.mass, mean.rows)).to(self.device)
        whole = self.total(sums).cpu().numpy()
        return PoolMean(int(whole[-1]), whole[:-1])

    def gather(self, values: np.ndarray, num_rows: int) -> np.ndarray:
        """The rows of all workers [B, ...] from this worker's own [b, ...], in their order."""
        if self.world == 1:
            return values
        if values.dtype == bool:  # which not every backend can sum
            return self.gather(values.astype(np.uint8), num_rows).astype(bool)
        whole = torch.zeros((num_rows, *values.shape[1:]), dtype=torch.from_numpy(values).dtype)
        whole[torch.from_numpy(self.share_of(num_rows))] = torch.from_numpy(values)
        return np.asarray(self.total(whole.to(self.device)).cpu().numpy())

    def together(self, values: Tensor, num_rows: int) -> Tensor:
        """The same for tensors; gradients reach this worker's own rows alone."""
        if self.world == 1:
            return values
        whole = values.new_zeros((num_rows, *values.shape[1:]))
        mine = torch.from_numpy(self.share_of(num_rows)).to(values.device)
        whole[mine] = values.detach()
        return self.total(whole).index_copy(0, mine, values)
