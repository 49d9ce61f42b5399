"""Networks by name: our own and every timm model. The only door to timm."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, runtime_checkable

import torch
from pydantic import Field, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.own_networks import Mlp, OwnNetwork, SmallCnn, WideResnet, build_own
from trainables.spec import Spec


class TimmModel(Spec):
    """Any timm model, at any input size and channel count."""

    kind: Literal["timm"] = "timm"
    name: str
    """Name as timm knows it, for example 'resnet18' or 'vit_small_patch16_224'."""
    pretrained: bool = False
    """Start from timm's published weights (needs a network or a filled cache)."""
    checkpoint: Path | None = None
    """Start from this local file instead (safetensors or torch weights)."""
    new_classifier: bool = False
    """Leave the file's classifier out and begin a new one, as for weights of other classes."""
    normalise: bool | None = None
    """Shift and scale colours as timm's published weights expect; None: if the student starts from
    such weights, by ``pretrained`` or with a new classifier."""
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the classifier, share in [0, 1)."""
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Stochastic depth, share in [0, 1)."""
    input_size: Annotated[int, Field(ge=16, le=2048)] | None = None
    """Scale images to this side inside the network, so that weights trained on large images serve
    small ones and views stay as cheap as the images are; None: as they come."""

    @model_validator(mode="after")
    def _leaves_out_what_is_there(self) -> Self:
        if self.new_classifier and self.checkpoint is None:
            raise ValueError(
                "new_classifier leaves out that of a file: name it in checkpoint (pretrained "
                "begins a new one by itself)"
            )
        return self

    @property
    def normalised(self) -> bool:
        """Whether colours are shifted and scaled."""
        return self.pretrained or self.new_classifier if self.normalise is None else self.normalise


Trained = Literal["all", "norm", "head"]
"""Parameters that move: all, those of normalisation layers, those of the classifier."""


AnyModel = SmallCnn | WideResnet | TimmModel | Mlp
ModelSpec = Annotated[AnyModel, Field(discriminator="kind")]


def build(spec: AnyModel, channels: int, size: int, num_classes: int) -> nn.Module:
    """A network from images ``[B, channels, size, size]`` to logits ``[B, num_classes]``.

    Initial values come from torch's global generator: seed it around the call.

    Raises:
        ValueError: timm knows no model of this name.
    """
    if isinstance(spec, TimmModel):
        return _timm_model(spec, channels, size, num_classes)
    model = build_own(spec, channels, size, num_classes)
    if spec.checkpoint is not None:
        model.load_state_dict(read_weights(spec.checkpoint), strict=True)
    return model


def begins_trained(spec: AnyModel) -> bool:
    """Whether a student starts from weights that were trained elsewhere."""
    return spec.checkpoint is not None or (isinstance(spec, TimmModel) and spec.pretrained)


def _timm_model(spec: TimmModel, channels: int, size: int, num_classes: int) -> nn.Module:
    import timm  # here, not above: it takes two seconds that our own networks never need

    try:
        _check_known(spec.name)
    except ValueError as error:
        raise ValueError(f"student.name: {error}") from error
    options: dict[str, object] = {"drop_rate": spec.drop_rate} if spec.drop_rate else {}
    if spec.drop_path_rate:
        options["drop_path_rate"] = spec.drop_path_rate
    side = spec.input_size or size
    config = timm.get_pretrained_cfg(spec.name)
    if config is not None and config.fixed_input_size:  # transformers fix it when they are built
        options["img_size"] = side
    network: nn.Module = timm.create_model(
        spec.name, pretrained=spec.pretrained, in_chans=channels, num_classes=num_classes, **options
    )
    if spec.checkpoint is not None and spec.new_classifier:
        _load_but_classifier(spec.checkpoint, network)
    model = network
    if spec.normalised or spec.input_size is not None:
        mean, std = (0.0,) * channels, (1.0,) * channels
        if spec.normalised:
            wanted = timm.data.resolve_model_data_config(network)
            mean, std = (
                _for_channels(wanted["mean"], channels),
                _for_channels(wanted["std"], channels),
            )
        model = _Prepared(network, (channels, side, side), mean, std)
    if spec.checkpoint is not None and not spec.new_classifier:
        model.load_state_dict(read_weights(spec.checkpoint), strict=True)
    return model


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """What belongs to red, green and blue, or their mean where there are other channels."""
    return values if channels == len(values) else (sum(values) / len(values),) * channels


def _load_but_classifier(path: Path, network: nn.Module) -> None:
    """Load weights in place, but those of the classifier.

    Raises:
        ValueError: The file holds other weights than the rest of the network needs.
    """
    weights, own = read_weights(path), network.state_dict()
    last = {id(value) for value in _head_of(network).parameters()}
    new = {name for name, value in network.named_parameters() if id(value) in last}
    found = {name: value for name, value in weights.items() if name not in new}
    lacking, unknown = own.keys() - new - found.keys(), found.keys() - own.keys()
    other = {n for n in found.keys() & own.keys() if found[n].shape != own[n].shape}
    if lacking or unknown or other:
        shown = ", ".join(sorted(lacking | unknown | other)[:5])
        raise ValueError(
            f"checkpoint: {path} does not fit {type(network).__name__}: {len(lacking)} "
            f"tensors are missing, {len(unknown)} unknown, {len(other)} of other shapes ({shown}); "
            "name the timm model that it was trained with and give images its channels"
        )
    network.load_state_dict(found, strict=False)


@dataclass(frozen=True)
class FeatureMaps:
    """A backbone that gives maps of several scales."""

    network: nn.Module
    """From images [B, C, H, W] to a list of maps, finest first."""
    widths: list[int]
    """Channels of each map."""
    strides: list[int]
    """Image pixels per cell of each map."""


def feature_maps(name: str, channels: int, *, pretrained: bool) -> FeatureMaps:
    """A timm model as a backbone.

    Raises:
        ValueError: timm knows no model of this name, or it has no maps of several scales.
    """
    import timm  # here, not above: it takes two seconds that the small network never needs

    _check_known(name)
    try:
        network = timm.create_model(
            name, pretrained=pretrained, in_chans=channels, features_only=True
        )
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"timm's {name} has no maps of several scales: {error}") from error
    info = network.feature_info
    return FeatureMaps(network, list(info.channels()), list(info.reduction()))


def _check_known(name: str) -> None:
    import timm  # here, not above: it takes two seconds that the small network never needs

    if not timm.is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"timm knows no model {name!r}.{hint}")


@runtime_checkable
class ShowsFeatures(Protocol):
    """A network that tells its features itself."""

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C] and features [B, D] of images."""


def pretrained_network(
    name: str, checkpoint: Path | None, num_outputs: int | None, *, size: int | None = None
) -> nn.Module:
    """A trained timm network that takes images [B, 1 or 3, H, W] in [0, 1], of any size.

    Images are scaled and normalised as its weights expect, or scaled to ``size``. ``num_outputs`` 0
    gives pooled features instead of logits, None as many outputs as timm's own weights have.

    Raises:
        ValueError: timm knows no model of this name.
    """
    import timm  # here, not above: it takes two seconds that the small network never needs

    _check_known(name)
    outputs = {} if num_outputs is None else {"num_classes": num_outputs}
    network: nn.Module = timm.create_model(name, pretrained=checkpoint is None, **outputs)
    if checkpoint is not None:
        weights = read_weights(checkpoint)
        if num_outputs == 0:  # a classifier in the file is of no use here
            weights = {k: v for k, v in weights.items() if k in network.state_dict()}
        network.load_state_dict(weights, strict=True)
    wanted = timm.data.resolve_model_data_config(network)
    channels, *shape = wanted["input_size"]
    if size is not None:
        shape = [size, size]
    return _Prepared(network.eval(), (channels, *shape), wanted["mean"], wanted["std"])


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
        found: Tensor = self.network(self._prepared(images))
        return found

    def forward_features(self, images: Tensor) -> Tensor:
        """Maps of images, as timm's own."""
        found: Tensor = self.network.forward_features(self._prepared(images))  # type: ignore[operator] # timm
        return found

    def forward_head(self, maps: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Logits or pooled features of maps, as timm's own."""
        found: Tensor = self.network.forward_head(maps, pre_logits=pre_logits)  # type: ignore[operator] # timm
        return found

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's own."""
        return _head_of(self.network)

    def _prepared(self, images: Tensor) -> Tensor:
        channels, *size = self._size
        if images.shape[1] != channels:
            images = images.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
        if tuple(images.shape[2:]) != tuple(size):
            images = nn.functional.interpolate(images, size, mode="bicubic", antialias=True)
        return (images - self.mean) / self.std


def features_of(model: nn.Module, images: Tensor) -> Tensor:
    """Pooled features [b, D] of images, as the model's classifier reads them."""
    own = isinstance(model, OwnNetwork)
    found: Tensor = model.features(images) if own else _pooled(model, images)  # type: ignore[operator] # timm
    return found


def _pooled(model: Any, images: Tensor) -> Any:
    return model.forward_head(model.forward_features(images), pre_logits=True)


def classifier_of(model: nn.Module) -> nn.Linear:
    """The layer from features [b, D] to logits [b, C].

    Raises:
        ValueError: The model's classifier is not one linear layer.
    """
    own = isinstance(model, OwnNetwork)
    found: object = model.classifier if own else model.get_classifier()  # type: ignore[operator] # timm
    if not isinstance(found, nn.Linear):
        raise ValueError(  # noqa: TRY004 - the user named another kind of network
            f"student: {type(model).__name__} has no linear classifier behind its features, which "
            "this recipe reads: choose another network"
        )
    return found


def logits_and_features(
    model: nn.Module, images: Tensor, apart: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [B, C] of images and the pooled features [B, D] that the classifier reads.

    Logits of rows that are ``apart``, bool [B], have gradients to the classifier alone.

    Raises:
        ValueError: Rows are apart, and the classifier is not one linear layer.
    """
    if isinstance(model, ShowsFeatures):
        return model.logits_and_features(images)
    if apart is None and not isinstance(model, OwnNetwork):
        timm_model: Any = model
        maps = timm_model.forward_features(images)
        pooled: Tensor = timm_model.forward_head(maps, pre_logits=True)
        return timm_model.forward_head(maps), pooled.flatten(1)
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


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights from a local file, by name; nothing in it is run.

    Raises:
        ValueError: The file holds no weights.
    """
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


_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def freeze_all_but(which: Trained, model: nn.Module) -> None:
    """Let only these parameters learn, in place.

    Raises:
        ValueError: The network has none of them.
    """
    if which == "all":
        return
    if which == "norm":
        layers: list[nn.Module] = [
            module for module in model.modules() if isinstance(module, _NORMS)
        ]
    else:
        layers = [_head_of(model)]
    kept = {id(p) for layer in layers for p in layer.parameters()}
    if not kept:
        raise ValueError(f"optimiser.trains is {which!r}, but the student has no such layers")
    for parameter in model.parameters():
        parameter.requires_grad = id(parameter) in kept


def _head_of(model: Any) -> nn.Module:
    """The classifier of our own network or of a timm model."""
    head = model.classifier if isinstance(model, OwnNetwork) else model.get_classifier()
    return head if isinstance(head, nn.Module) else nn.Identity()


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, with batch norm on the batch's own statistics; running ones stay."""
    was_training = network.training
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(m, m.momentum, m.num_batches_tracked) for m in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 0.0
        norm.num_batches_tracked = (
            None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
        )
    try:
        yield
    finally:
        for norm, momentum, tracked in kept:
            norm.momentum, norm.num_batches_tracked = momentum, tracked
        network.train(was_training)


def num_parameters(model: nn.Module) -> int:
    """How many trainable numbers the network holds."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
