"""Foreign label sources: networks trained elsewhere, on other classes or on none of ours.

A source becomes a module from images [B, C, H, W] in [0, 1] to log-probabilities of *our* classes.

Legend: B images, C classes of ours, K classes of theirs, D features.
"""

import importlib
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.models import logits_and_features, pretrained_network
from trainables.spec import Spec

ClassMap = tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]


class TimmSource(Spec):
    """A timm network with its published weights or a checkpoint of yours."""

    kind: Literal["timm"] = "timm"
    model: str
    """Name as timm knows it, for example 'resnet50.a1_in1k'."""
    checkpoint: Path | None = None
    """Weights from this local file (safetensors or torch weights) instead of timm's own."""
    num_outputs: Annotated[int, Field(ge=2)] | None = None
    """Classes of the checkpoint's classifier; None: as many as timm's own weights have."""
    classes: ClassMap = ()
    """For each of our classes the outputs that stand for it, whose probabilities are added; ()
    for a class that it does not know; empty: the outputs are our classes in our order."""
    rounds: Literal["first", "all"] = "first"
    """Labels the pool before round 0 only, or beside the students in every round."""


class CallableSource(Spec):
    """Any function of yours: a batch of images in, log-probabilities out."""

    kind: Literal["callable"] = "callable"
    target: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """``module.path:name`` of a function of images float32 [B, C, H, W] in [0, 1] that returns
    log-probabilities (or logits) [B, K]."""
    version: str = "1"
    """Change it when the function changes: labels are found in the store by it, not by the code."""
    classes: ClassMap = ()
    """For each of our classes the outputs that stand for it, () for one that it does not know;
    empty: they are our classes."""
    rounds: Literal["first", "all"] = "first"
    """Labels the pool before round 0 only, or beside the students in every round."""


class PrototypeSource(Spec):
    """A zero-shot classifier: the class embedding that an image's features are nearest to.

    Probabilities are softmax(cosine / temperature). Source: Radford et al., CLIP, ICML 2021,
    arXiv:2103.00020, section 3.1.2, with class embeddings of any origin.
    """

    kind: Literal["prototypes"] = "prototypes"
    model: str
    """timm network whose pooled features are compared."""
    checkpoint: Path | None = None
    """Weights from this local file instead of timm's own."""
    embeddings: Path
    """safetensors file that holds ``classes``, float32 [C, D]: one embedding for each class."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.01
    """Cosines are divided by this."""
    rounds: Literal["first", "all"] = "first"
    """Labels the pool before round 0 only, or beside the students in every round."""


ForeignSource = Annotated[
    TimmSource | CallableSource | PrototypeSource, Field(discriminator="kind")
]


def files_of(source: TimmSource | CallableSource | PrototypeSource) -> dict[str, Path]:
    """The local files that a source reads, by the name of their field."""
    named = ((name, getattr(source, name, None)) for name in ("checkpoint", "embeddings"))
    return {name: path for name, path in named if path is not None}


def load_source(
    source: TimmSource | CallableSource | PrototypeSource, num_classes: int
) -> nn.Module:
    """A module from images [B, channels, H, W] in [0, 1] to log-probabilities [B, C].

    Raises:
        ValueError: The source can't be loaded or does not fit our classes.
    """
    if isinstance(source, CallableSource):
        return _Mapped(_function(source.target), source.classes, num_classes)
    if isinstance(source, TimmSource):
        network = pretrained_network(source.model, source.checkpoint, source.num_outputs)
        return _Mapped(network, source.classes, num_classes)
    network = pretrained_network(source.model, source.checkpoint, 0)
    found = load_file(source.embeddings)
    if "classes" not in found or found["classes"].ndim != 2 or len(found["classes"]) != num_classes:
        shapes = {name: tuple(value.shape) for name, value in found.items()}
        raise ValueError(
            f"{source.embeddings} must hold 'classes' [{num_classes}, D], found {shapes}"
        )
    return _Prototypes(network, found["classes"], source.temperature)


def _function(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"label source {target!r} can't be loaded: {error}") from error


class _Mapped(nn.Module):
    """Outputs of another class space as log-probabilities of ours."""

    def __init__(self, network: Any, classes: ClassMap, num_classes: int) -> None:
        super().__init__()
        if classes and len(classes) != num_classes:
            raise ValueError(
                f"classes names {len(classes)} classes, the data set has {num_classes}"
            )
        if any(len(set(outputs)) < len(outputs) for outputs in classes):
            raise ValueError("classes names an output twice for one of our classes")
        if classes and not any(classes):
            raise ValueError("classes must name at least one output for one of our classes")
        self._network, self._classes, self._num_classes = network, classes, num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities [B, C]; those of outputs that stand for no class are left out."""
        return self._ours(self._network(images))

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [B, C] and features [B, D]; a function has none."""
        logits, features = logits_and_features(self._network, images)
        return self._ours(logits), features

    def _ours(self, logits: Tensor) -> Tensor:
        found = torch.log_softmax(logits.float(), dim=1)
        if not self._classes:
            if found.shape[1] != self._num_classes:
                raise ValueError(
                    f"the source has {found.shape[1]} outputs, the data set {self._num_classes} "
                    "classes: name in `classes` which outputs stand for each"
                )
            return found
        if (most := max(max(outputs, default=0) for outputs in self._classes)) >= found.shape[1]:
            raise ValueError(f"classes names output {most}, the source has {found.shape[1]}")
        unknown = torch.full_like(found[:, 0], -torch.inf)
        ours = [
            torch.logsumexp(found[:, list(outputs)], dim=1) if outputs else unknown
            for outputs in self._classes
        ]
        return torch.log_softmax(torch.stack(ours, dim=1), dim=1)


class _Prototypes(nn.Module):
    def __init__(self, network: nn.Module, embeddings: Tensor, temperature: float) -> None:
        super().__init__()
        self._network, self._temperature = network, temperature
        self.embeddings: Tensor
        self.register_buffer("embeddings", nn.functional.normalize(embeddings.float(), dim=1))

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities [B, C]."""
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [B, C] and features [B, D]."""
        features = nn.functional.normalize(self._network(images).float(), dim=1)
        if features.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"embeddings have {self.embeddings.shape[1]} numbers, the network's features "
                f"{features.shape[1]}"
            )
        near = features @ self.embeddings.T / self._temperature
        return torch.log_softmax(near, dim=1), features
