"""Batched weak and strong views on the device, each image with its own randomness (kornia).

Random numbers are drawn for the *global* batch from a seed and then cut to the rows at hand, so
an image gets the same view whatever the number of workers that share the batch.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from trainables.randomness import seed_device
from trainables.spec import Spec

RGB = 3
"""Channels of colour images."""

Share = Annotated[float, Field(ge=0, le=1)]


class ViewSpec(Spec):
    """How one view of an image is drawn."""

    flip: Share = 0.5
    """Probability of a left-right flip; 0 for digits and letters."""
    translate: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift along each axis, as a share of the image's side."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation either way, in degrees of arc."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest change of scale either way: sizes are drawn from 1 - scale to 1 + scale."""
    shear: Annotated[float, Field(ge=0, le=60)] = 0.0
    """Largest shear either way, in degrees of arc."""
    brightness: Share = 0.0
    """Largest change of brightness either way, as a share."""
    contrast: Share = 0.0
    """Largest change of contrast either way, as a share."""
    saturation: Share = 0.0
    """Largest change of saturation either way, as a share; acts on colour images alone."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest turn of hues either way, as a share of the circle; acts on colour images alone."""
    posterize: Share = 0.0
    """Probability that an image keeps 4 to 8 of its 8 bits."""
    solarize: Share = 0.0
    """Probability that values above a threshold, drawn from 0 to 1, are inverted."""
    sharpen: Share = 0.0
    """Probability that an image is sharpened, by up to twice the difference to its blur."""
    erase: Share = 0.0
    """Probability that a rectangle is erased."""
    erase_share: Annotated[float, Field(gt=0, le=0.9)] = 0.25
    """Largest share of the image's area that is erased."""
    feature_noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Where rows are features: standard deviation of the noise on each, in that of the row."""
    feature_drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Where rows are features: share of them set to 0; the others grow to keep the sum."""


WEAK = ViewSpec()
STRONG = ViewSpec(
    translate=0.15,
    rotate=25.0,
    scale=0.2,
    shear=15.0,
    brightness=0.4,
    contrast=0.4,
    erase=0.75,
    feature_noise=0.3,
    feature_drop=0.3,
)

PLAIN = ViewSpec(flip=0, translate=0)
"""The image as it is."""


class View:
    """Draws one view of a batch of images in [0, 1]."""

    def __init__(self, spec: ViewSpec) -> None:
        self._of_colour = _stages(spec, colour=True)
        coloured = spec.saturation or spec.hue
        self._of_others = _stages(spec, colour=False) if coloured else self._of_colour

    @torch.no_grad()
    def __call__(self, images: Tensor, *, seed: int, rows: Sequence[int], of: int) -> Tensor:
        """A view ``[B, C, H, W]`` of ``images``, which are rows ``rows`` of a batch of ``of``.

        The same seed and the same row give the same view, however the batch is split.
        """
        return self._drawn(images, seed, rows, of)[0]

    @torch.no_grad()
    def with_geometry(
        self, images: Tensor, *, seed: int, rows: Sequence[int], of: int
    ) -> tuple[Tensor, Tensor]:
        """The same view, and the transforms of its rows, float32 ``[B, 3, 3]``.

        They lead from pixels (x, y, 1) of the image, where 0 is the centre of the first pixel, to
        pixels of the view.
        """
        view, used = self._drawn(images, seed, rows, of)
        matrices = torch.eye(3, device=images.device).repeat(len(images), 1, 1)
        for stage in used:  # stages that change no geometry have the identity
            # sums of products: a matrix product may round to 10 bits on some devices
            step = stage.transform_matrix.to(matrices)
            matrices = (step[:, :, :, None] * matrices[:, None]).sum(dim=2)
        return view, matrices

    def _drawn(
        self, images: Tensor, seed: int, rows: Sequence[int], of: int
    ) -> tuple[Tensor, list[Any]]:
        """The view, and the stages that drew it."""
        if not len(images):
            return images, []
        device = images.device
        index = torch.as_tensor(rows)
        stages = self._of_colour if images.shape[1] == RGB else self._of_others
        with torch.random.fork_rng(devices=[]):
            seed_device(seed, torch.device("cpu"))  # where all parameters are drawn
            for stage in stages:
                params = stage.forward_parameters(torch.Size((of, *images.shape[1:])))
                images = stage(images, params=_cut(params, index, of, device))
        return images.clamp_(0, 1), stages


class FeatureView:
    """Draws one view of a batch of features: noise, and some of them dropped."""

    def __init__(self, spec: ViewSpec) -> None:
        self._noise, self._drop = spec.feature_noise, spec.feature_drop

    @torch.no_grad()
    def __call__(self, images: Tensor, *, seed: int, rows: Sequence[int], of: int) -> Tensor:
        """A view ``[B, D, 1, 1]`` of features, which are rows ``rows`` of a batch of ``of``.

        The same seed and the same row give the same view, however the batch is split.
        """
        if not len(images) or not (self._noise or self._drop):
            return images
        stream = torch.Generator().manual_seed(seed)
        index, shape = torch.as_tensor(rows), (of, *images.shape[1:])
        if self._noise:
            drawn = torch.randn(shape, generator=stream)[index].to(images)
            images = images + self._noise * images.std(dim=1, keepdim=True) * drawn
        if self._drop:
            kept = (torch.rand(shape, generator=stream)[index] >= self._drop).to(images)
            images = images * kept / (1 - self._drop)
        return images


def view_of(spec: ViewSpec, *, features: bool) -> View | FeatureView:
    """What draws views of images, or of features."""
    return FeatureView(spec) if features else View(spec)


def _stages(spec: ViewSpec, *, colour: bool) -> list[Any]:
    from kornia import augmentation  # here: a second that processes which only label never need

    stages = [*_geometry(spec), *_tones(spec, colour=colour)]
    if spec.erase:
        area = (0.02, spec.erase_share)
        stages.append(augmentation.RandomErasing(scale=area, value=0.5, p=spec.erase))
    return stages


def _geometry(spec: ViewSpec) -> Iterator[Any]:
    """What moves pixels."""
    from kornia import augmentation

    if spec.flip:
        yield augmentation.RandomHorizontalFlip(p=spec.flip)
    if spec.translate or spec.rotate or spec.scale or spec.shear:
        yield augmentation.RandomAffine(
            degrees=spec.rotate,
            translate=(spec.translate, spec.translate),
            scale=(1 - spec.scale, 1 + spec.scale) if spec.scale else None,
            shear=spec.shear or None,
            padding_mode="reflection",
            p=1.0,
        )


def _tones(spec: ViewSpec, *, colour: bool) -> Iterator[Any]:
    """What changes values where they stand."""
    from kornia import augmentation

    if spec.brightness:
        around = (1 - spec.brightness, 1 + spec.brightness)
        yield augmentation.RandomBrightness(brightness=around, p=1.0)
    if spec.contrast:
        yield augmentation.RandomContrast(contrast=(1 - spec.contrast, 1 + spec.contrast), p=1.0)
    if spec.saturation and colour:
        around = (1 - spec.saturation, 1 + spec.saturation)
        yield augmentation.RandomSaturation(saturation=around, p=1.0)
    if spec.hue and colour:
        yield augmentation.RandomHue(hue=(-spec.hue, spec.hue), p=1.0)
    if spec.posterize:
        yield augmentation.RandomPosterize(bits=(4.0, 8.0), p=spec.posterize)
    if spec.solarize:
        yield augmentation.RandomSolarize(
            thresholds=(0.0, 1.0), additions=(0.0, 0.0), p=spec.solarize
        )
    if spec.sharpen:
        yield augmentation.RandomSharpness(sharpness=(0.0, 2.0), p=spec.sharpen)


def _cut(params: dict[str, Tensor], rows: Tensor, of: int, device: torch.device) -> dict[str, Any]:
    """Parameters of the chosen rows of a batch.

    Parameters that a stage drew only for the images it hits (``batch_prob``) are found through the
    running count of hits.
    """
    hit = params["batch_prob"].round().bool()
    place = hit.cumsum(0) - 1
    chosen = place[rows][hit[rows]]
    cut: dict[str, Any] = {}
    for name, value in params.items():
        if name == "forward_input_shape":
            cut[name] = torch.tensor([len(rows), *value.tolist()[1:]])
        elif name == "batch_prob":
            cut[name] = value[rows]
        elif value.ndim and len(value) == int(hit.sum()) and name != "order":
            cut[name] = value[chosen].to(device, non_blocking=True)
        elif value.ndim and len(value) == of:
            cut[name] = value[rows].to(device, non_blocking=True)
        else:
            cut[name] = value
    return cut
