"""Jobs: a step's work described in plain values, so that any process can do it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from orchestrator.landmark_recipe import LandmarkLabelling, PointSelector
from orchestrator.recipe import LabellingSpec, ScoringSpec
from trainables.combining import Combiner, Mean
from trainables.filters import Filter
from trainables.foreign import ForeignSource
from trainables.generators import Extension
from trainables.landmarks.elements import PointRanking
from trainables.landmarks.network import LandmarkNetworkSpec
from trainables.landmarks.settings import LandmarkTraining
from trainables.models import ModelSpec
from trainables.nearby import TableCalibrator
from trainables.ranking import Ranking
from trainables.selectors.library import Selector
from trainables.spec import Spec
from trainables.student import TrainingSpec
from trainables.targets import TargetSpec
from trainables.tasks.kinds import TaskSpec


class ImageForm(Spec):
    """The form of images, resolved to plain numbers."""

    fit: Literal["crop", "pad"] = "crop"
    """Scaled on the shorter side and cropped, or on the longer side and padded with black."""

    size: Annotated[int, Field(ge=4)]
    """Side in pixels."""
    channels: Annotated[int, Field(ge=1, le=3)]
    """Channels."""
    column: ClassVar[str] = "image"


class FeatureForm(Spec):
    """Features of a frozen network in the place of images: to all else images [width, 1, 1]."""

    width: Annotated[int, Field(ge=1)]
    """Numbers in a row."""
    column: ClassVar[str] = "features"
    size: ClassVar[int] = 1

    @property
    def channels(self) -> int:
        return self.width


Form = ImageForm | FeatureForm


class Fold(Spec):
    """Part of the labelled rows that a student does not see."""

    number: Annotated[int, Field(ge=0)]
    """Fold that is left out, from 0."""
    of: Annotated[int, Field(ge=2)]
    """Number of folds."""


class Job(Spec):
    """What every job knows: where to read and write, and which step it works on."""

    store: str
    """Root of the store."""
    data: str
    """Root of the data set."""
    address: str
    """Address of the step that the job works on."""
    task: TaskSpec
    """What labels are."""
    form: Form
    """Form of the images."""

    @property
    def num_classes(self) -> int:
        """Names that labels count by: classes, or points."""
        return self.task.num_names


class AnyTrainJob(Job):
    """Train one student, whatever its task."""

    num_steps: Annotated[int, Field(ge=1)]
    """Optimiser steps."""
    seed: int
    selection: str | None = None
    """Address of the selection to train on; None in round 0."""
    start: str | None = None
    """Address of the training step whose teacher is the starting point; None starts anew."""
    new_classifier: bool = False
    """Whether its classifier is left out of the starting point."""
    keep_at: tuple[float, ...] = ()
    """Shares of the steps after which the teacher is kept beside the final one."""
    rows_per_pass: int = 0
    checkpoint_every_s: float = 30.0


class PointTrainJob(AnyTrainJob):
    """Train one landmark student."""

    kind: Literal["points"] = "points"
    student: LandmarkNetworkSpec
    training: LandmarkTraining


class TrainJob(AnyTrainJob):
    """Train one student that tells classes apart."""

    kind: Literal["classes"] = "classes"
    student: ModelSpec
    training: TrainingSpec
    fold: Fold | None = None
    """Labelled rows to leave out; None uses all."""
    out_of_fold: str | None = None
    """Address of the labelled rows' out-of-fold predictions, if the loss reads them."""
    classes: tuple[int, ...] = ()
    """Classes of a specialist, which sees no row of another; empty: all."""
    extension: str | None = None
    """Address of the made images that join the selection, if there are any."""


class PointLabelJob(Job):
    """Find points in the pool with a trained teacher."""

    kind: Literal["points"] = "points"
    train: str
    """Address of the training step whose teacher labels."""
    labelling: LandmarkLabelling
    sigma_px: float
    """Pixels of the network's input in which heatmap and detection may be apart."""
    rows_per_pass: int = 512


class LabelJob(Job):
    """Label the pool with a trained teacher."""

    kind: Literal["classes"] = "classes"
    train: str | None = None
    """Address of the training step whose teacher labels."""
    checkpoint: int | None = None
    """Which of the teachers that the step kept on its way; None is the final one."""
    source: ForeignSource | None = None
    """The foreign source that labels instead."""
    classes: tuple[int, ...] = ()
    """Classes that a specialist speaks of; empty: all."""
    labelling: LabellingSpec
    features: bool = False
    """Whether the table says where rows lie in the network's feature space."""
    rows_per_pass: int = 512


class CombineJob(Job):
    """Make one prediction table of several."""

    predictions: tuple[str, ...]
    """Addresses of the labelling steps of all sources."""
    before: str | None = None
    """Address of the combined predictions of the round before, if they are remembered."""
    combine: Combiner
    remember: float = 0.0
    """Share with which the predictions of the round before count."""
    seed: int


class CrossLabelJob(Job):
    """Label each labelled row by a student that never saw it."""

    folds: tuple[str, ...] = ()
    """Addresses of the fold students, in order."""
    sources: tuple[ForeignSource, ...] = ()
    """Foreign sources that label all labelled rows instead: they never saw one."""
    combine: Combiner = Mean()
    """How several foreign sources become one."""
    train: str | None = None
    """Address of the training step whose teacher labels the pool, if a selector asks how near
    labelled rows are to the classes."""
    labelling: LabellingSpec


class SelectJob(Job):
    """Turn beliefs into a selection."""

    predictions: str
    """Address of the labelling step."""
    out_of_fold: str | None = None
    """Address of the out-of-fold predictions, if the selector needs them."""
    ranking: Ranking = "confidence"
    filters: tuple[Filter, ...] = ()
    previous: str | None = None
    """Address of the selection whose rows keep their label; None chooses from the whole pool."""
    remaining: bool = False
    """Whether those rows count nowhere else: everything is fitted on the others alone."""
    calibrators: tuple[TableCalibrator, ...] = ()
    selector: Selector
    targets: TargetSpec
    seed: int


class PointSelectJob(Job):
    """Turn found points into a selection."""

    predictions: str
    """Address of the labelling step."""
    previous: str | None = None
    """Address of the selection whose points stay; None chooses from the whole pool."""
    ranking: PointRanking
    selector: PointSelector
    weight: Literal["uniform", "confidence"]
    seed: int


class ExtendJob(Job):
    """Make images that join a selection."""

    selection: str
    """Address of the selection that the generator is fitted on."""
    extension: Extension
    seed: int


class ScoreJob(Job):
    """Score a teacher on validation and test."""

    train: str
    """Address of the training step."""
    scoring: ScoringSpec


class AuditJob(Job):
    """Look at a selection, for reports."""

    selection: str
    """Address of the selection."""
    predictions: str
    """Address of the labelling step that it was chosen from."""
    selection_before: str | None = None
    """Address of the selection of the round before."""
    predictions_before: str | None = None
    """Address of the predictions of the round before."""
    labelled_rows: tuple[int, ...]
    """Labelled rows of each class."""


TrainJobs = TrainJob | PointTrainJob
LabelJobs = LabelJob | PointLabelJob
ANY_TRAIN_JOB: TypeAdapter[TrainJobs] = TypeAdapter(
    Annotated[TrainJobs, Field(discriminator="kind")]
)
"""Reads a training job that came from another process."""
ANY_LABEL_JOB: TypeAdapter[LabelJobs] = TypeAdapter(
    Annotated[LabelJobs, Field(discriminator="kind")]
)
"""Reads a labelling job that came from another process."""
