"""The optimiser of a student and its learning-rate curve."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from trainables.models import Trained, freeze_all_but
from trainables.schedules import Bounds, Scalar, number
from trainables.spec import Spec


class OptimiserSpec(Spec):
    """How a student's weights move."""

    kind: Literal["sgd", "adamw"] = "sgd"
    """'sgd' is SGD with Nesterov momentum; 'adamw' is Adam with decoupled weight decay."""
    learning_rate: Annotated[Scalar, Bounds(low=1e-15, high=10)] = 0.03
    """Peak learning rate for the global batch; it is not scaled by the number of workers. A
    schedule here gives each round its own."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum (sgd), or the first moment's decay (adamw)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 5e-4
    """Weight decay; not applied to biases and normalisation weights."""
    warmup_share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Share of the steps during which the learning rate rises from 0 to its peak."""
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Learning rate at the end as a share of the peak, reached by half a cosine."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 0.0
    """Gradients are scaled down to this norm; 0 leaves them alone."""
    trains: Trained = "all"
    """Parameters that move in rounds that begin with trained weights: all, those of normalisation
    layers, those of the classifier. A student that begins anew trains all of them."""

    def rate_at(self, step: int, num_steps: int) -> float:
        """Learning rate of a step (0-based) of ``num_steps``."""
        peak, warmup = number(self.learning_rate), self.warmup_share * num_steps
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        share = (step - warmup) / max(1.0, num_steps - warmup)
        low = self.final_share
        return peak * (low + (1 - low) * (1 + math.cos(math.pi * share)) / 2)

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimiser over the model's parameters; biases and norms are not decayed.

        Parameters that do not move are frozen in place.
        """
        freeze_all_but(self.trains, model)
        rate = number(self.learning_rate)
        plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
        decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        if self.kind == "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=(self.momentum, 0.999))
        nesterov = self.momentum > 0
        return torch.optim.SGD(groups, lr=rate, momentum=self.momentum, nesterov=nesterov)
