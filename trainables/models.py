"""Networks by name: one small CNN of our own and every timm model. The only door to timm."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file
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


class TimmModel(Spec):
    """Any timm model, at any input size and channel count."""

    kind: Literal["timm"] = "timm"
    name: str
    """Name as timm knows it, for example 'resnet18' or 'vit_small_patch16_224'."""
    pretrained: bool = False
    """Start from timm's published weights (needs a network or a filled cache)."""
    checkpoint: Path | None = None
    """Start from this local file instead (safetensors or torch weights); classifier included."""
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the classifier, share in [0, 1)."""
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Stochastic depth, share in [0, 1)."""


ModelSpec = Annotated[SmallCnn | TimmModel, Field(discriminator="kind")]


def build(spec: SmallCnn | TimmModel, channels: int, size: int, num_classes: int) -> nn.Module:
    """A network from images ``[B, channels, size, size]`` to logits ``[B, num_classes]``.

    Initial values come from torch's global generator: seed it around the call.

    Raises:
        ValueError: timm knows no model of this name.
    """
    if isinstance(spec, SmallCnn):
        return _SmallCnn(spec, channels, num_classes)
    return _timm_model(spec, channels, size, num_classes)


def _timm_model(spec: TimmModel, channels: int, size: int, num_classes: int) -> nn.Module:
    import timm  # here, not above: it takes two seconds that the small network never needs

    if not timm.is_model(spec.name.split(".")[0]):
        near = get_close_matches(spec.name, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"student.name: timm knows no model {spec.name!r}.{hint}")
    options: dict[str, object] = {"drop_rate": spec.drop_rate} if spec.drop_rate else {}
    if spec.drop_path_rate:
        options["drop_path_rate"] = spec.drop_path_rate
    config = timm.get_pretrained_cfg(spec.name)
    if config is not None and config.fixed_input_size:  # transformers fix it when they are built
        options["img_size"] = size
    model: nn.Module = timm.create_model(
        spec.name, pretrained=spec.pretrained, in_chans=channels, num_classes=num_classes, **options
    )
    if spec.checkpoint is not None:
        model.load_state_dict(_read_weights(spec.checkpoint), strict=True)
    return model


def pretrained_network(name: str, checkpoint: Path | None, num_outputs: int | None) -> nn.Module:
    """A trained timm network that takes images [B, 1 or 3, H, W] in [0, 1], of any size.

    Images are scaled and normalised as its weights expect. ``num_outputs`` 0 gives pooled features
    instead of logits, None as many outputs as timm's own weights have.

    Raises:
        ValueError: timm knows no model of this name.
    """
    import timm  # here, not above: it takes two seconds that the small network never needs

    if not timm.is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"timm knows no model {name!r}.{hint}")
    outputs = {} if num_outputs is None else {"num_classes": num_outputs}
    network: nn.Module = timm.create_model(name, pretrained=checkpoint is None, **outputs)
    if checkpoint is not None:
        weights = _read_weights(checkpoint)
        if num_outputs == 0:  # a classifier in the file is of no use here
            weights = {k: v for k, v in weights.items() if k in network.state_dict()}
        network.load_state_dict(weights, strict=True)
    wanted = timm.data.resolve_model_data_config(network)
    return _Prepared(network.eval(), wanted["input_size"], wanted["mean"], wanted["std"])


class _Prepared(nn.Module):
    """A network behind the scaling and normalisation that its weights expect."""

    def __init__(
        self,
        network: nn.Module,
        size: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.network, self._size = network, size
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        channels, *size = self._size
        if images.shape[1] != channels:
            images = images.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
        if tuple(images.shape[2:]) != tuple(size):
            images = nn.functional.interpolate(images, size, mode="bicubic", antialias=True)
        found: Tensor = self.network((images - self.mean) / self.std)
        return found


def features_of(model: nn.Module, images: Tensor) -> Tensor:
    """Pooled features [b, D] of images, as the model's classifier reads them."""
    own = isinstance(model, _SmallCnn)
    found: Tensor = model.features(images) if own else _pooled(model, images)  # type: ignore[operator]
    return found


def _pooled(model: Any, images: Tensor) -> Any:
    return model.forward_head(model.forward_features(images), pre_logits=True)


def classifier_of(model: nn.Module) -> nn.Linear:
    """The layer from features [b, D] to logits [b, C].

    Raises:
        ValueError: The model's classifier is not one linear layer.
    """
    own = isinstance(model, _SmallCnn)
    found: object = model.classifier if own else model.get_classifier()  # type: ignore[operator]
    if not isinstance(found, nn.Linear):
        raise ValueError(  # noqa: TRY004 - the user named another kind of network
            f"student: {type(model).__name__} has no linear classifier behind its features, which "
            "this recipe reads: choose another network"
        )
    return found


def logits_and_features(
    model: nn.Module, images: Tensor, apart: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [b, C] and the pooled features [b, D] behind them.

    Logits of rows that are ``apart``, bool [b], have gradients to the classifier alone.
    """
    features = features_of(model, images)
    read = features if apart is None else features.where(~apart[:, None], features.detach())
    return classifier_of(model)(read), features


def synchronised(model: nn.Module) -> nn.Module:
    """The model with batch norm over the rows of all workers; GPUs only.

    timm's own conversion keeps the activations that its fused layers hold; torch's drops them.
    """
    from timm.layers import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(model)
    return converted


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # readers of broken files raise whatever they stumble over
        raise ValueError(f"{path} is no file of weights: {error}") from error
    return weights


def has_batch_norm(model: nn.Module) -> bool:
    """Whether an image's output in training depends on the other images of its pass."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def num_parameters(model: nn.Module) -> int:
    """How many trainable numbers the network holds."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class _SmallCnn(nn.Module):
    def __init__(self, spec: SmallCnn, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = (spec.width, 2 * spec.width, 4 * spec.width)
        blocks: list[nn.Module] = []
        for before, after in zip((channels, *widths), widths, strict=False):
            norm = nn.BatchNorm2d(after) if spec.norm == "batch" else nn.GroupNorm(8, after)
            conv = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
            blocks += [conv, norm, nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        blocks[-1] = nn.AdaptiveAvgPool2d(1)
        self.features = nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(spec.dropout))
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images))
        return logits
