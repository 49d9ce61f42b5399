"""The landmark network: a backbone, features of several scales joined, and three maps.

Legend: B images, K points, H and W sides of an image, h and w sides of its maps.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.models import feature_maps, read_weights
from trainables.spec import Spec


class Pyramid(Spec):
    """A small convolutional network of our own with maps of 2, 4, 8 and 16 pixels a cell."""

    kind: Literal["pyramid"] = "pyramid"
    width: Annotated[int, Field(ge=8, le=512, multiple_of=8)] = 16
    """Channels of the first level; the others have 2, 4 and 4 times as many."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation: 'group' does not depend on how batches are split."""


class TimmBackbone(Spec):
    """Any timm model that tells its features of several scales."""

    kind: Literal["timm"] = "timm"
    name: str
    """Name as timm knows it, for example 'resnet18' or 'hrnet_w18'."""
    pretrained: bool = False
    """Start from timm's published weights (needs a network or a filled cache)."""


class LandmarkNetworkSpec(Spec):
    """A network that finds points."""

    kind: Literal["landmark_network"] = "landmark_network"
    backbone: Annotated[Pyramid | TimmBackbone, Field(discriminator="kind")] = Pyramid()
    """What turns an image into features of several scales."""
    stride: Literal[2, 4, 8, 16] = 4
    """Image pixels per cell of the maps."""
    width: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 32
    """Channels of the joined features."""
    checkpoint: Path | None = None
    """Start from this local file (safetensors or torch weights), such as a run's teacher."""


class Maps(NamedTuple):
    """What the network tells of a batch."""

    heat: Tensor
    """Logits of where each point lies, float32 [B, K, h, w]: softmax over cells."""
    centre: Tensor
    """Logits of whether the centre of the points lies in a cell, float32 [B, 1, h, w]."""
    offsets: Tensor
    """From each cell to every point, in cells, float32 [B, 2K, h, w]."""


def build_landmark_network(spec: LandmarkNetworkSpec, channels: int, num_points: int) -> nn.Module:
    """A network from images ``[B, channels, H, W]`` to :class:`Maps`.

    Initial values come from torch's global generator: seed it around the call.

    Raises:
        ValueError: timm knows no such backbone, or it has no features at this stride.
    """
    model = LandmarkNetwork(spec, channels, num_points)
    if spec.checkpoint is not None:
        model.load_state_dict(read_weights(spec.checkpoint), strict=True)
    return model


class LandmarkNetwork(nn.Module):
    """Backbone, top-down joining of its levels, and one small head for each map.

    Source: levels are joined as in feature pyramids (Lin et al., CVPR 2017, arXiv:1612.03144);
    centre and offsets as in Objects as points (Zhou et al., 2019, arXiv:1904.07850).
    """

    def __init__(self, spec: LandmarkNetworkSpec, channels: int, num_points: int) -> None:
        super().__init__()
        self.stride = spec.stride
        norm = "batch"
        if isinstance(spec.backbone, Pyramid):
            norm = spec.backbone.norm
            self.backbone: nn.Module = _Pyramid(spec.backbone, channels)
            widths, strides = _Pyramid.levels(spec.backbone)
        else:
            maps = feature_maps(spec.backbone.name, channels, pretrained=spec.backbone.pretrained)
            self.backbone, widths, strides = maps.network, maps.widths, maps.strides
        self._used = [i for i, stride in enumerate(strides) if stride >= spec.stride]
        if not self._used or strides[self._used[0]] != spec.stride:
            raise ValueError(
                f"student.stride is {spec.stride}, but the backbone has maps of "
                f"{', '.join(map(str, strides))} pixels a cell: choose one of them"
            )
        width = spec.width
        self.lateral = nn.ModuleList(nn.Conv2d(widths[i], width, 1) for i in self._used)
        self.smooth = _block(width, width, 1, norm)
        told = nn.Conv2d(width, 3 * num_points + 1, 1)
        bias = torch.zeros(3 * num_points + 1)
        bias[num_points] = -4.0  # a centre is rare: begin with few (focal loss)
        told.bias = nn.Parameter(bias)
        self.heads = nn.Sequential(_block(width, width, 1, norm), told)
        self._num_points = num_points

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels = self.backbone(images)
        joined = self.lateral[-1](levels[self._used[-1]])
        for lateral, at in zip(reversed(self.lateral[:-1]), reversed(self._used[:-1]), strict=True):
            finer = lateral(levels[at])
            joined = finer + nn.functional.interpolate(joined, size=finer.shape[2:])
        found = self.heads(self.smooth(joined)).float()
        num = self._num_points
        return found[:, :num], found[:, num : num + 1], found[:, num + 1 :]


def cut(maps: Maps, rows: Sequence[int]) -> list[Maps]:
    """Maps of a batch as those of its parts, so many rows each."""
    parts = (torch.split(values, list(rows)) for values in maps)
    return [Maps(*values) for values in zip(*parts, strict=True)]


def maps_of(network: nn.Module, images: Tensor) -> Maps:
    """What the network tells of images [B, C, H, W] in [0, 1]."""
    return Maps(*network(images))


class _Pyramid(nn.Module):
    def __init__(self, spec: Pyramid, channels: int) -> None:
        super().__init__()
        widths, _ = self.levels(spec)
        before = (channels, *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(
                _block(a, b, 2, spec.norm), _block(b, b, 1, spec.norm) if at else nn.Identity()
            )
            for at, (a, b) in enumerate(zip(before, widths, strict=True))
        )

    @staticmethod
    def levels(spec: Pyramid) -> tuple[list[int], list[int]]:
        """Channels of each level, and image pixels per cell."""
        return [spec.width, 2 * spec.width, 4 * spec.width, 4 * spec.width], [2, 4, 8, 16]

    def forward(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for stage in self.stages:
            images = stage(images)
            found.append(images)
        return found


def _block(before: int, after: int, stride: int, norm: str) -> nn.Module:
    layer = nn.BatchNorm2d(after) if norm == "batch" else nn.GroupNorm(8, after)
    conv = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, layer, nn.ReLU(inplace=True))
