"""Networks that know some of the classes only, and say nothing of the others.

Legend: B images, C classes, D features.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainables.models import logits_and_features


def class_parts(num_classes: int, parts: int) -> list[tuple[int, ...]]:
    """The classes cut into so many sets of neighbouring ones, of sizes that differ by at most 1."""
    return [tuple(part.tolist()) for part in np.array_split(np.arange(num_classes), parts)]


class Restricted(nn.Module):
    """A network whose softmax is over some classes; of the others it says minus infinity: unknown.

    Minus infinity is no claim that a row is of no such class; see the combiner 'specialists'.
    """

    def __init__(self, network: nn.Module, classes: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.network = network
        shut = torch.ones(num_classes, dtype=torch.bool)
        shut[list(classes)] = False
        self.shut: Tensor
        self.register_buffer("shut", shut, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        logits: Tensor = self.network(images)
        return logits.masked_fill(self.shut, -torch.inf)

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C] and features [B, D]."""
        logits, features = logits_and_features(self.network, images)
        return logits.masked_fill(self.shut, -torch.inf), features
