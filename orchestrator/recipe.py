"""Recipe: everything that decides a run's outcome, and nothing that does not."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.calibrators import Calibrator
from trainables.models import ModelSpec, SmallCnn
from trainables.selectors.fixed import ClassShare
from trainables.selectors.library import Selector
from trainables.spec import Spec
from trainables.student import TrainingSpec
from trainables.weighting import One, Weighting


class ImageSpec(Spec):
    """The form in which a student sees an image."""

    size: Annotated[int, Field(ge=4, le=2048)] | None = None
    """Side in pixels after resizing and centre cropping; None keeps the data set's own size."""
    channels: Literal[1, 3] | None = None
    """1 grey, 3 colour; None keeps the data set's own."""


class LabellingSpec(Spec):
    """How the teacher's beliefs about the pool are read."""

    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Logits are divided by this before they become probabilities."""
    flips: bool = False
    """Average the probabilities of the image and of its mirror image."""
    out_of_fold: Annotated[int, Field(ge=0, le=20)] = 0
    """Folds for predictions on labelled rows by students that never saw them; 0 makes none."""


class TargetSpec(Spec):
    """What the student is trained towards on accepted rows, and how much a row counts."""

    kind: Literal["hard", "soft"] = "hard"
    """'hard' is the most probable class, 'soft' the whole distribution."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Soft targets are p^(1/temperature), normalised; below 1 sharpens."""
    weight: Weighting = One()
    """How much a row counts; reads confidences as the selector saw them."""
    reads: Literal["calibrated", "teacher"] = "calibrated"
    """Labels and soft targets come from what the selector saw, or from the teacher as it was."""


class RoundPolicy(Spec):
    """What happens between rounds."""

    num_rounds: Annotated[int, Field(ge=1, le=1000)] = 4
    """Rounds to play, counting round 0, which trains on labels alone."""
    start: Literal["restart", "warm"] = "restart"
    """A round's student starts anew, or from the teacher of the last accepted round."""
    pool: Literal["relabel_all", "keep"] = "relabel_all"
    """Choose from the whole pool each round, or keep accepted rows with their first label."""
    deliver: Literal["best", "last"] = "best"
    """Which accepted round the run delivers: the best on validation, or the last."""
    roll_back_below: Annotated[float, Field(ge=0, le=1)] | None = None
    """Roll a round back if its validation accuracy falls by more than this share; None never."""
    label_last: bool = True
    """Label and select once more after the last round: by the last kept teacher."""
    patience_rounds: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many rounds in a row without a better validation; None never."""


class Recipe(Spec):
    """Everything that decides the outcome of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """The seed from which every random choice of the run follows."""
    images: ImageSpec = ImageSpec()
    """Size and channels of the images."""
    student: ModelSpec = SmallCnn()
    """The network that each round trains."""
    training: TrainingSpec = TrainingSpec()
    """How a round trains it."""
    labelling: LabellingSpec = LabellingSpec()
    """How the teacher labels the pool."""
    calibrators: tuple[Calibrator, ...] = ()
    """Corrections of the teacher's beliefs before the selector sees them, one after the other."""
    selector: Selector = ClassShare()
    """Which beliefs become pseudo-labels."""
    targets: TargetSpec = TargetSpec()
    """What accepted rows are trained towards."""
    policy: RoundPolicy = RoundPolicy()
    """What happens between rounds."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        term, plan = self.training.objective.consistency, self.training.batch
        if term is not None and not plan.pool:
            faults.append("training.batch.pool is 0 but objective.consistency needs pool rows")
        if term is None and plan.pool:
            faults.append("training.batch.pool has no effect without objective.consistency")
        if self.policy.num_rounds > 1 and not plan.selected and term is None:
            faults.append("no later round would read the pool: training.batch.selected is 0")
        if not self.labelling.out_of_fold:
            readers = [("selector", self.selector), *(("calibrator", c) for c in self.calibrators)]
            faults += [
                f"{what} {each.kind} needs labelling.out_of_fold of at least 2 folds"
                for what, each in readers
                if each.needs_out_of_fold
            ]
        if self.labelling.out_of_fold == 1:
            faults.append("labelling.out_of_fold must be 0 or at least 2")
        if faults:
            raise ValueError("; ".join(faults))
        return self
