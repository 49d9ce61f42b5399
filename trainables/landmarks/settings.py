"""What decides how a landmark network is trained within one round."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.augment import ViewSpec
from trainables.batches import BatchPlan
from trainables.optimiser import OptimiserSpec
from trainables.schedules import Bounds, Scalar, SigmoidRamp
from trainables.spec import Spec
from trainables.student import StepCount
from trainables.teachers import StudentIsTeacher, TeacherRule
from trainables.update import Precision

Weight = Annotated[Scalar, Bounds(low=0, over=("rounds", "steps"))]
Share = Annotated[Scalar, Bounds(low=0, high=1, over=("rounds", "steps"))]

GENTLE = ViewSpec(flip=0.0, translate=0.05, rotate=5.0, scale=0.05)
BOLD = ViewSpec(
    flip=0.0,
    translate=0.1,
    rotate=25.0,
    scale=0.2,
    brightness=0.2,
    contrast=0.2,
    erase=0.3,
    erase_share=0.1,
)


class LandmarkObjective(Spec):
    """The loss of rows whose points are known, and the views in which they are shown."""

    sigma_px: Annotated[float, Field(gt=0, le=100)] = 3.0
    """Standard deviation of the Gaussian around each point, in pixels of the network's input."""
    centre: Weight = 1.0
    """Weight of finding the centre of the points (focal loss)."""
    offset: Weight = 0.1
    """Weight of the offsets from the centre to each point (L1, in cells)."""
    selected: Weight = 1.0
    """Weight of pseudo-labelled rows beside labelled ones."""
    labelled_view: ViewSpec = BOLD
    """How labelled rows are shown; their points move along."""
    selected_view: ViewSpec = BOLD
    """How pseudo-labelled rows are shown."""


class PointConsistency(Spec):
    """Points that the teacher finds in one view teach the student in another.

    Source: Tarvainen and Valpola, Mean teachers, NeurIPS 2017, arXiv:1703.01780, with a threshold
    as in FixMatch, arXiv:2001.07685. Departs from the papers: targets are points, moved from one
    view to the other by their geometry, and drawn as Gaussians.
    """

    first_round: Annotated[int, Field(ge=0)] = 0
    """Round from which the term acts; before it labels alone teach."""
    weight: Weight = SigmoidRamp(end=1.0, until=0.4, over="steps")
    """Weight of the term."""
    threshold: Share = 0.3
    """Least peak of the teacher's heatmap, in [0, 1]; less sure points are left out."""
    weak: ViewSpec = GENTLE
    """View that the teacher sees."""
    strong: ViewSpec = BOLD
    """View that the student sees."""


class TwoSources(Spec):
    """Teacher-student asynchronous learning: two networks, each with supervision of its own.

    The calm network learns that its heatmaps of a frame and of the neighbour frame, moved onto it
    by optical flow, agree. The radical one learns points from two sources: tracking (what is found
    in the moved neighbour) and detection (the candidate of the centre branch nearest to it), fused.
    After each step the calm network absorbs the radical one, and the other way round if asked.

    Source: TSAL, Teacher-student asynchronous learning with multi-source consistency for facial
    landmark detection, arXiv:2012.06711. Departs from the paper: the flow is OpenCV's DIS, not a
    network trained along; heatmaps are softmaxed and compared on a scale without units; the
    released step can't be run, so rates and ramps are the paper's and the rest is ours.
    """

    first_round: Annotated[int, Field(ge=0)] = 0
    """Round from which there are two networks; before it one learns from labels alone."""
    weight: Weight = SigmoidRamp(end=1.0, until=0.4, over="steps")
    """Weight of the unlabelled terms of both networks."""
    heat: Weight = 1.0
    """Weight of the calm network's heatmap consistency beside the radical one's points."""
    structure: Weight = 0.01
    """Weight of the structure constraint: the extent of the points must not change at once."""
    tracking: Share = 0.5
    """Share of the tracking source in the fused points; the rest is detection."""
    told_by: Literal["own", "calm"] = "own"
    """Network that the sources ask: the radical one itself, or the calm one."""
    learns: Literal["points", "heatmaps"] = "heatmaps"
    """How the radical network learns fused points: by distance, or as Gaussians."""
    threshold: Share = 0.0
    """Least peak in the moved neighbour for a point to be learned, in [0, 1]."""
    candidates: Annotated[int, Field(ge=1, le=1024)] = 32
    """Cells of the centre map that detection decodes."""
    reach: Annotated[int, Field(ge=1, le=100)] = 1
    """Most places in the clip that a neighbour may be away; one is drawn at random."""
    calm_rate: Annotated[float, Field(ge=0, lt=1)] | None = 0.999
    """Weight of the calm network's old weights when it absorbs the radical one; None: never."""
    radical_rate: Annotated[float, Field(ge=0, lt=1)] | None = 0.999
    """The same the other way round; None: never."""
    queue: Annotated[int, Field(ge=1, le=20)] = 1
    """Snapshots of the radical network whose mean the calm one absorbs."""
    every: Annotated[int, Field(ge=1)] = 1
    """Steps from one exchange to the next."""
    view: ViewSpec = BOLD
    """How a frame and its moved neighbour are shown, both alike."""
    second: ViewSpec = BOLD
    """On still images: the second view, which is moved back onto the first, in the place of a
    neighbour."""
    deliver: Literal["calm", "radical"] = "calm"
    """Network that labels the pool and is scored."""


class LandmarkTraining(Spec):
    """What decides how a landmark student is trained within one round."""

    steps: StepCount = StepCount()
    """Length of a round."""
    batch: BatchPlan = BatchPlan(labelled=16, selected=16)
    """Composition of the global batch."""
    objective: LandmarkObjective = LandmarkObjective()
    """The loss of known points."""
    consistency: PointConsistency | None = None
    """What the student learns from pool rows through its teacher; none by default."""
    two_sources: TwoSources | None = None
    """Two networks that learn asynchronously from several sources; none by default."""
    optimiser: OptimiserSpec = OptimiserSpec(
        kind="adamw", learning_rate=0.002, weight_decay=0.01, warmup_share=0.05
    )
    """How weights move."""
    teacher: TeacherRule = StudentIsTeacher()
    """How the teacher, which labels the pool and is scored, follows the student."""
    precision: Precision = "float32"
    """Arithmetic of the forward and backward pass; weights and losses stay float32."""

    @property
    def reads_pool(self) -> bool:
        """Whether a step draws pool rows without stored labels."""
        return self.consistency is not None or self.two_sources is not None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        if not self.batch.labelled:
            faults.append("batch.labelled must be at least 1")
        if self.batch.max_copies > 1:
            faults.append("batch.max_copies repeats rows of rare classes: landmarks have none")
        if self.consistency is not None and self.two_sources is not None:
            faults.append("consistency and two_sources exclude each other")
        if self.consistency is not None and self.teacher.kind == "student":
            faults.append("consistency needs a teacher that follows: set teacher to {kind: ema}")
        if self.reads_pool and not self.batch.pool:
            faults.append("batch.pool is 0 but the objective needs pool rows")
        if not self.reads_pool and self.batch.pool:
            faults.append("batch.pool has no effect without consistency or two_sources")
        if self.optimiser.trains != "all":
            faults.append("optimiser.trains must be all: a landmark network has no one classifier")
        if faults:
            raise ValueError("; ".join(faults))
        return self
