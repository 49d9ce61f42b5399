"""What a network believes about decoded images, and where they lie in its feature space."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.errors import DataError
from orchestrator.jobs.decoded import Decoded
from orchestrator.recipe import LabellingSpec
from trainables.augment import ViewSpec, view_of
from trainables.batches import as_floats
from trainables.beliefs import Beliefs
from trainables.combining import Mean, combined
from trainables.models import logits_and_features
from trainables.neighbours import directions
from trainables.randomness import derive
from trainables.update import autocast

ROWS_IN_PASSES = 512


def predict_in_passes(  # noqa: PLR0913 - as in `predict`
    model: nn.Module,
    decoded: Decoded,
    labelling: LabellingSpec,
    device: torch.device,
    num_classes: int,
    *,
    seed: int,
    features: bool = False,
    partly: bool = False,
) -> Beliefs:
    """The mean of several passes, and how far they are apart.

    With ``labelling.passes`` dropout is on and draws anew; of ``labelling.views`` the first is the
    image itself, the others are weak views. Features are those of the first pass. Batches have a
    fixed size here: what dropout draws depends on it.
    """
    if labelling.passes > 1:
        model.train()  # some networks drop in their forward, not in a module
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    passes: list[Beliefs] = []
    with torch.random.fork_rng():
        for view in range(labelling.views):
            shown = (
                decoded
                if not view
                else _view(decoded, labelling.view, device, seed=derive(seed, "view", view))
            )
            for number in range(labelling.passes):
                names = ("view", view, number) if view else ("pass", number)
                torch.manual_seed(derive(seed, *names))
                told = predict(
                    model,
                    shown,
                    labelling,
                    ROWS_IN_PASSES,
                    device,
                    num_classes,
                    features=features and not passes,
                    partly=partly,
                )
                passes.append(told)
    model.eval()
    found = combined(Mean(), decoded.example_ids, np.stack([told.log_probs for told in passes]))
    return replace(found, features=passes[0].features)


def _view(decoded: Decoded, spec: ViewSpec, device: torch.device, *, seed: int) -> Decoded:
    """A view of the images or features, each drawn by its place in the fragment."""
    pixels = np.empty_like(decoded.pixels)
    features, total = pixels.dtype != np.uint8, len(pixels)
    view = view_of(spec, features=features)
    for at in range(0, total, ROWS_IN_PASSES):
        rows = range(at, min(total, at + ROWS_IN_PASSES))
        images = as_floats(torch.from_numpy(decoded.pixels[rows.start : rows.stop]).to(device))
        found = view(images, seed=seed, rows=rows, of=total)
        stored = found if features else found.mul_(255).round_()
        pixels[rows.start : rows.stop] = stored.cpu().numpy()
    return replace(decoded, pixels=pixels)


@torch.inference_mode()
def predict(  # noqa: PLR0913 - all but two say how the model is asked
    model: nn.Module,
    decoded: Decoded,
    labelling: LabellingSpec,
    rows_per_pass: int,
    device: torch.device,
    num_classes: int,
    *,
    foreign: bool = False,
    features: bool = False,
    partly: bool = False,
) -> Beliefs:
    """What the model believes about decoded images; log-probabilities are float32.

    With ``features`` it tells as well where they lie in the model's feature space. With ``partly``
    rows of NaN are returned.

    Raises:
        DataError: The model returns NaN, and ``partly`` is false.
    """
    blocks, places = [], []
    # where features' width must be known, a model is asked about no image rather than not at all
    for at in range(0, max(len(decoded.pixels), int(features)), rows_per_pass):
        images = as_floats(torch.from_numpy(decoded.pixels[at : at + rows_per_pass]).to(device))
        images = images.contiguous(memory_format=torch.channels_last)
        with autocast(labelling.precision, device):
            told, place = _told(model, images, labelling, features=features)
        blocks.append(told.cpu().numpy())
        if place is not None:
            places.append(directions(place.cpu().numpy())[0].astype(np.float16))
    log_probs = np.concatenate(blocks or [np.zeros((0, num_classes), np.float32)])
    if not partly and np.isnan(log_probs).any():
        raise DataError(f"labels that are not numbers: {not_numbers(foreign=foreign)}")
    found = Beliefs.of_log_probs(decoded.example_ids, log_probs)
    return replace(found, features=np.concatenate(places)) if places else found


def not_numbers(*, foreign: bool) -> str:
    """What to do about labels that are not numbers."""
    if foreign:
        return "mend or remove the foreign source"
    return (
        "the teacher's training diverged: lower recipe.training.optimiser.learning_rate or set its "
        "max_grad_norm"
    )


def _told(
    model: nn.Module, images: Tensor, labelling: LabellingSpec, *, features: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities [B, C] and features [B, D]; with flips those of both images together."""
    found, place = _asked(model, images, labelling.temperature, features=features)
    if not labelling.flips:
        return found, place
    mirrored, other = _asked(model, images.flip(3), labelling.temperature, features=features)
    if place is not None and other is not None:
        place = place + other
    return torch.logaddexp(found, mirrored) - float(np.log(2)), place


def _asked(
    model: nn.Module, images: Tensor, temperature: float, *, features: bool
) -> tuple[Tensor, Tensor | None]:
    if not features:
        return torch.log_softmax(model(images).float() / temperature, dim=1), None
    logits, place = logits_and_features(model, images)
    return torch.log_softmax(logits.float() / temperature, dim=1), place.float()
