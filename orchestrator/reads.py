"""What the steps of a run read of its config: resolved to plain numbers, the rest left out."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.job import FeatureForm, Form, ImageForm
from orchestrator.recipe import ImageSpec, LabellingSpec, Recipe
from trainables.augment import STRONG, WEAK
from trainables.foreign import ForeignSource, files_of
from trainables.models import AnyModel
from trainables.objective import SelectedTerm
from trainables.own_networks import Mlp
from trainables.schedules import at_round
from trainables.student import StepCount, TrainingSpec


def student_read(student: AnyModel) -> dict[str, Any]:
    """What training reads of a student: a local checkpoint enters by its content, not its path.

    Raises:
        ConfigError: The checkpoint can't be read.
    """
    if student.checkpoint is not None:
        content = content_of({"checkpoint": student.checkpoint}, "recipe.student.checkpoint")
        return student.plain() | content
    return student.plain()


def content_of(files: Mapping[str, Path], where: str) -> dict[str, str]:
    """SHA-256 digests of local files, by the field that names each.

    Raises:
        ConfigError: A file can't be read.
    """
    try:
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    except OSError as error:
        raise ConfigError(f"{where}: {error.filename}: {error.strerror}") from error


def placed(source: ForeignSource) -> ForeignSource:
    """The source with paths that mean the same in every process."""
    return source.model_copy(update={k: path.absolute() for k, path in files_of(source).items()})


def reading(labelling: LabellingSpec, *, once: bool = False) -> LabellingSpec:
    """What one source's labelling reads of the settings; the rest has its default.

    With ``once`` it labels every row in one pass.
    """
    views = 1 if once else labelling.views
    return LabellingSpec(
        temperature=labelling.temperature,
        flips=labelling.flips,
        precision=labelling.precision,
        passes=1 if once else labelling.passes,
        views=views,
        view=labelling.view if views > 1 else WEAK,
    )


def check_workers(config: RunConfig) -> None:
    """Every training worker needs a row of each batch: a labelled one, where there are any."""
    batch, workers = config.recipe.training.batch, config.placement.train_workers
    source, least = batch.shared_rows
    if batch.labelled_alone is not None:
        least = min(least, batch.labelled_alone)
    if workers > least:
        raise ConfigError(
            f"placement.train_workers is {workers}, but a batch holds {least} {source} rows and "
            f"each worker needs one: raise recipe.training.batch.{source} or use fewer workers"
        )


def form_of(config: RunConfig, data: Dataset) -> Form:
    """Size and channels of the images, from the recipe or else from the data set; or of features.

    Raises:
        ConfigError: The data set's images differ in size and the recipe names none, or it holds
            features and the recipe asks for what only images have.
    """
    if data.manifest.embedding is not None:
        _check_features(config)
        return FeatureForm(width=data.manifest.embedding.width)
    return image_form(config.recipe.images, data)


def image_form(wanted: ImageSpec, data: Dataset, fit: Literal["crop", "pad"] = "crop") -> ImageForm:
    """Size and channels of the images, from the recipe or else from the data set.

    Raises:
        ConfigError: The data set's images differ in size and the recipe names none.
    """
    manifest = data.manifest
    if (size := wanted.size or manifest.size) is None:
        raise ConfigError(
            "recipe.images.size is needed: the images of this data set differ in size"
        )
    channels = wanted.channels or (1 if manifest.channels == 1 else 3)
    return ImageForm(size=size, channels=channels, fit=fit)


def _check_features(config: RunConfig) -> None:
    """What a recipe can't ask of a data set that holds features instead of images."""
    recipe = config.recipe
    assert isinstance(recipe, Recipe)  # noqa: S101 - features have classes
    faults = []
    if not isinstance(recipe.student, Mlp):
        faults.append(f"recipe.student.kind is {recipe.student.kind}, must be mlp")
    if recipe.images.size is not None or recipe.images.channels is not None:
        faults.append("recipe.images has no effect: leave it out")
    faults += [
        f"recipe.{part}.flips must be false: features have no mirror image"
        for part in ("labelling", "scoring")
        if getattr(recipe, part).flips
    ]
    if recipe.extension is not None:
        faults.append("recipe.extension makes images: leave it out")
    if faults:
        raise ConfigError(f"{config.data} holds features, not images: {'; '.join(faults)}")


def resolve_training(
    training: TrainingSpec,
    round_: int,
    num_rounds: int,
    *,
    has_selection: bool,
    begins_trained: bool = False,
) -> TrainingSpec:
    """The training settings that this round reads; what it does not read has its default.

    Two recipes that differ only in what a round does not read then share that round's address.
    """
    resolved = at_round(training, round_, num_rounds)
    objective, batch, steps = resolved.objective, resolved.batch, resolved.steps
    if objective.entropy is not None and objective.entropy.weight == 0:
        objective = objective.model_copy(update={"entropy": None})
    optimiser = resolved.optimiser
    if not begins_trained:
        optimiser = optimiser.model_copy(update={"trains": "all"})
    term = objective.consistency
    if term is not None and round_ < term.first_round:
        without = {"consistency": None, "representation": None}
        objective = objective.model_copy(update=without)
        batch = batch.model_copy(update={"pool": 0})
    elif term is not None:
        acting = term.model_copy(update={"first_round": 0})
        objective = objective.model_copy(update={"consistency": acting})
    if has_selection:
        steps = steps.model_copy(update={"first_round": 1})
    else:
        alone: dict[str, Any] = {"selected": SelectedTerm(), "doubly_robust": None}
        objective = objective.model_copy(update=alone)
        labelled = batch.labelled if batch.labelled_alone is None else batch.labelled_alone
        batch = batch.model_copy(update={"selected": 0, "max_copies": 1, "labelled": labelled})
        steps = StepCount(first_round=steps.first_round, most=steps.most)
    batch = batch.model_copy(update={"labelled_alone": None})
    if not resolved.model_copy(update={"objective": objective, "batch": batch}).reads_pool:
        batch = batch.model_copy(update={"pool": 0})
    both = batch.pool or objective.labelled.view == "both"
    read = {"weak", "strong"} if both else {str(objective.labelled.view)}
    if has_selection:
        read.add(objective.selected.view)
    unread = {name: view for name, view in (("weak", WEAK), ("strong", STRONG)) if name not in read}
    objective = objective.model_copy(update=unread)
    parts = {"objective": objective, "batch": batch, "steps": steps, "optimiser": optimiser}
    return resolved.model_copy(update=parts)


def labels_alone(training: TrainingSpec) -> TrainingSpec:
    """The same training without anything that reads the pool."""
    objective, batch = training.objective, training.batch
    without = {"consistency": None, "representation": None, "entropy": None}
    parts: dict[str, Any] = {
        "objective": objective.model_copy(update=without),
        "batch": batch.model_copy(update={"pool": 0}),
        "partner": None,
        "self_meta": None,
        "look_ahead": None,
    }
    return training.model_copy(update=parts)
