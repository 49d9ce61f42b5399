"""Networks of our own for small images and features; each is features, then one linear layer.

Legend: B images, D features, C classes.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from trainables.spec import Spec


class SmallCnn(Spec):
    """A three-block convolutional network for 28x28 and 32x32 images, about 94,000 parameters."""

    kind: Literal["small_cnn"] = "small_cnn"
    width: Annotated[int, Field(ge=8, le=512, multiple_of=8)] = 32
    """Channels of the first block; the second and third have 2 and 4 times as many."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation: 'batch' learns faster, 'group' does not depend on how batches are split."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of features dropped before the classifier while training, in [0, 1)."""
    checkpoint: Path | None = None
    """Start from this local file (safetensors or torch weights), such as a run's teacher."""


class WideResnet(Spec):
    """A wide residual network for 32x32 images, the one that most published methods are tried on.

    Source: Zagoruyko and Komodakis, Wide residual networks, BMVC 2016, arXiv:1605.07146, with the
    leaky activations of Oliver et al., NeurIPS 2018, arXiv:1804.09170, appendix B.
    """

    kind: Literal["wide_resnet"] = "wide_resnet"
    depth: Annotated[int, Field(ge=10, le=100)] = 28
    """Layers with weights, 6n + 4: WRN-28-2 is depth 28 and width 2."""
    width: Annotated[int, Field(ge=1, le=20)] = 2
    """Channels of the three groups are 16, 32 and 64 times this."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of features dropped before the classifier while training, in [0, 1)."""
    checkpoint: Path | None = None
    """Start from this local file (safetensors or torch weights), such as a run's teacher."""

    @field_validator("depth")
    @classmethod
    def _is_six_n_and_four(cls, depth: int) -> int:
        if depth % 6 != 4:
            raise ValueError(f"a wide_resnet is 10, 16, 22, 28, ... layers deep, not {depth}")
        return depth


class Mlp(Spec):
    """Fully connected layers behind layer norm: what features of a frozen network need.

    Without a hidden layer it is a linear probe.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[int, Field(ge=0, le=65_536)] = 0
    """Units of the hidden layer; 0 has none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the inputs of the last layer dropped while training, in [0, 1)."""
    checkpoint: Path | None = None
    """Start from this local file (safetensors or torch weights)."""


OwnModel = SmallCnn | WideResnet | Mlp


def build_own(spec: OwnModel, channels: int, size: int, num_classes: int) -> "OwnNetwork":
    """A network from images ``[B, channels, size, size]`` to logits ``[B, num_classes]``."""
    if isinstance(spec, SmallCnn):
        features, width = _small_cnn(spec, channels), 4 * spec.width
    elif isinstance(spec, WideResnet):
        features, width = _wide_resnet(spec, channels), 64 * spec.width
    else:
        inputs = channels * size**2
        features, width = _mlp(spec, inputs), spec.hidden or inputs
    return OwnNetwork(nn.Sequential(*features, nn.Dropout(spec.dropout)), width, num_classes)


class OwnNetwork(nn.Module):
    """Features, then one linear layer."""

    def __init__(self, features: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        """From images [B, C, H, W] to [B, D]."""
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images))
        return logits


def _small_cnn(spec: SmallCnn, channels: int) -> list[nn.Module]:
    widths = (spec.width, 2 * spec.width, 4 * spec.width)
    blocks: list[nn.Module] = []
    for before, after in zip((channels, *widths), widths, strict=False):
        norm = nn.BatchNorm2d(after) if spec.norm == "batch" else nn.GroupNorm(8, after)
        conv = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
        # the same as pooling behind ReLU, which then has a quarter of the values to see
        blocks += [conv, norm, nn.MaxPool2d(2), nn.ReLU(inplace=True)]
    blocks[-2:] = [nn.ReLU(inplace=True), _MapMeans()]
    return [*blocks, nn.Flatten()]


def _mlp(spec: Mlp, inputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten(), nn.LayerNorm(inputs)]
    if spec.hidden:
        layers += [nn.Linear(inputs, spec.hidden), nn.ReLU(inplace=True)]
    return layers


def _wide_resnet(spec: WideResnet, channels: int) -> list[nn.Module]:
    blocks, before = (spec.depth - 4) // 6, 16
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, kernel_size=3, padding=1, bias=False)]
    for group, after in enumerate((16 * spec.width, 32 * spec.width, 64 * spec.width)):
        for number in range(blocks):
            stride = 2 if group and not number else 1
            layers.append(_Residual(before, after, stride))
            before = after
    layers += [nn.BatchNorm2d(before), nn.LeakyReLU(SLOPE, inplace=True), _MapMeans(), nn.Flatten()]
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, SLOPE, "fan_out")
    return layers


SLOPE = 0.1
"""Slope of the leaky activations below zero."""


class _Residual(nn.Module):
    """Two 3x3 convolutions behind norms and activations, added to their input."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        same = before == after and stride == 1
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        act = nn.functional.leaky_relu
        ready = act(self.norm1(images), SLOPE)
        beside = images if self.shortcut is None else self.shortcut(ready)
        inner = act(self.norm2(self.conv1(ready)), SLOPE)
        found: Tensor = self.conv2(inner) + beside
        return found


class _MapMeans(nn.Module):
    """The mean of each map, [B, D, H, W] to [B, D, 1, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        means: Tensor = _MeansOfMaps.apply(images)
        return means


class _MeansOfMaps(torch.autograd.Function):
    """Adaptive pooling to 1 whose gradient has the layout of its input.

    torch's own is laid out anew, which slows down the layers before it.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.shape = images.shape
        ctx.channels_last = images.is_contiguous(memory_format=torch.channels_last)
        return nn.functional.adaptive_avg_pool2d(images, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        layout = torch.channels_last if ctx.channels_last else torch.contiguous_format
        share: Tensor = gradient / (ctx.shape[2] * ctx.shape[3])
        return share.expand(ctx.shape).contiguous(memory_format=layout)
