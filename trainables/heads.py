"""Heads on a student's features: they train with it and are no part of what is delivered.

Legend: b rows of this worker, D features of the student, E of the embedding, C classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.models import classifier_of, logits_and_features
from trainables.randomness import derive

HeadName = Literal["embedding", "turns", "second_classifier"]
QUARTERS = 4
"""Turns that the head for them tells apart."""


def rows_where(chosen: Tensor, values: Tensor) -> Tensor:
    """The chosen rows, bool [b] on the CPU, of values [b, ...]: counted there, no GPU waits."""
    return values[chosen.nonzero()[:, 0].to(values.device, non_blocking=True)]


@dataclass(frozen=True)
class Outputs:
    """What a network and its heads say about rows; everything is float32."""

    log_probs: Tensor
    """Log-probabilities [b, C]."""
    heads: dict[str, Tensor]
    """What each head gives, by name: logits, or an embedding of any length."""

    @property
    def embedding(self) -> Tensor:
        """Directions [b, E] in which rows are held against each other, of length 1."""
        return nn.functional.normalize(self.heads["embedding"], dim=1)

    def rows(self, chosen: Tensor) -> "Outputs":
        """Those of the chosen rows, bool [b] on the CPU."""
        heads = {name: rows_where(chosen, values) for name, values in self.heads.items()}
        return Outputs(rows_where(chosen, self.log_probs), heads)


class Headed(nn.Module):
    """A student and its heads as one module, so that they move and are shared together."""

    def __init__(self, student: nn.Module, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.student, self.heads = student, heads
        self.training = student.training

    def forward(self, images: Tensor, apart: Tensor | None = None) -> dict[str, Tensor]:
        """Logits [b, C] as 'logits', and what each head gives, by name.

        Logits of rows that are ``apart``, bool [b], move the classifier and not the features.
        """
        logits, features = logits_and_features(self.student, images, apart)
        return {"logits": logits} | {name: head(features) for name, head in self.heads.items()}


def outputs_of(network: nn.Module, images: Tensor, apart: Tensor | None = None) -> Outputs:
    """What a network says about images [b, ., H, W]: one without heads, or :class:`Headed`.

    Rows are ``apart`` as there; only a network with heads takes them.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    found = network(images) if apart is None else network(images, apart)
    heads = found if isinstance(found, dict) else {"logits": found}
    heads = {name: value.float() for name, value in heads.items()}
    return Outputs(torch.log_softmax(heads.pop("logits"), dim=1), heads)


def build_heads(
    names: Iterable[HeadName], student: nn.Module, num_classes: int, width: int, seed: int
) -> nn.ModuleDict:
    """Heads for a student, with initial weights that the seed decides.

    ``width`` is E; 0 takes the student's features as they are.

    Raises:
        ValueError: The student's classifier is not one linear layer.
    """
    features = classifier_of(student).in_features
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "heads"))
        return nn.ModuleDict({n: _head(n, features, num_classes, width) for n in sorted(names)})


def _head(name: HeadName, features: int, num_classes: int, width: int) -> nn.Module:
    if name == "turns":
        return nn.Linear(features, QUARTERS)
    if name == "second_classifier":
        return nn.Sequential(
            nn.Linear(features, features),
            nn.ReLU(),
            nn.Linear(features, features),
            nn.ReLU(),
            nn.Linear(features, num_classes),
        )
    if not width:
        return nn.Identity()
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, width))
