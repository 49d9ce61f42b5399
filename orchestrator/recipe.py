"""Recipe: everything that decides a run's outcome, and nothing that does not."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.calibrators import Align, Calibrator, Transport
from trainables.combining import Combiner, Mean
from trainables.filters import Filter
from trainables.foreign import ForeignSource
from trainables.models import ModelSpec, SmallCnn, TimmModel
from trainables.partners import MetaTeacher, Peer
from trainables.schedules import schedules_over_steps
from trainables.selectors.fixed import ClassShare
from trainables.selectors.library import Selector
from trainables.spec import Spec
from trainables.student import TrainingSpec
from trainables.targets import TargetSpec
from trainables.teachers import StudentIsTeacher


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
    students: Annotated[int, Field(ge=1, le=100)] = 1
    """Students of different seeds that each round trains and that label together; the first one is
    scored and delivered."""
    passes: Annotated[int, Field(ge=1, le=1000)] = 1
    """Times that each student labels a row; above 1 its dropout stays on and draws anew."""
    foreign: tuple[ForeignSource, ...] = ()
    """Networks or functions from elsewhere that label before round 0, or in every round."""
    combine: Combiner = Mean()
    """How the labels of several sources become one."""
    remember: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share with which a row's labels of the round before count: an average over rounds."""

    @property
    def one_source(self) -> bool:
        """Whether each round's labels are those of one student as they are."""
        beside = any(source.rounds == "all" for source in self.foreign)
        return self.students == 1 and not beside and not self.remember

    @property
    def doubts(self) -> bool:
        """Whether every prediction table says how far its sources are apart."""
        return not self.one_source or self.passes > 1


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


def _has_dropout(student: SmallCnn | TimmModel) -> bool:
    return bool(student.dropout if isinstance(student, SmallCnn) else student.drop_rate)


def _partner_faults(training: TrainingSpec) -> list[str]:
    """What a partner or a look ahead can't go together with."""
    faults, term = [], training.objective.consistency
    if isinstance(training.partner, Peer) and term is None:
        faults.append("training.partner peer needs objective.consistency: it says what they learn")
    if isinstance(training.partner, MetaTeacher) and term is not None:
        faults.append("training.partner meta_teacher has a consistency of its own: remove the term")
    if isinstance(training.partner, MetaTeacher) and training.batch.selected:
        faults.append("training.partner meta_teacher needs training.batch.selected of 0")
    if training.look_ahead is not None:
        from_teacher = term is not None and term.labels_from == "teacher"
        if not from_teacher or isinstance(training.teacher, StudentIsTeacher):
            faults.append(
                "training.look_ahead needs an EMA teacher and consistency.labels_from: teacher"
            )
        if training.partner is not None:
            faults.append("training.look_ahead and training.partner exclude each other")
    alone = training.partner is None and training.look_ahead is None
    if training.objective.representation is not None and not alone:
        faults.append(
            "training.objective.representation acts on a student that trains alone: remove "
            "training.partner and look_ahead"
        )
    return faults


def _balance_faults(calibrators: tuple[Calibrator, ...], max_copies: int) -> list[str]:
    """Class balance is corrected once: twice overshoots."""
    ways = [f"calibrator {c.kind}" for c in calibrators if isinstance(c, Align | Transport)]
    ways += ["training.batch.max_copies"] if max_copies > 1 else []
    if len(ways) < 2:
        return []
    return [f"{' and '.join(ways)} each correct the class balance: keep one of them"]


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
    filters: tuple[Filter, ...] = ()
    """What holds rows back before anything else, by how far several label sources are apart."""
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
        plan = self.training.batch
        reads_pool = self.training.reads_pool
        if reads_pool and not plan.pool:
            faults.append("training.batch.pool is 0 but objective.consistency needs pool rows")
        if not reads_pool and plan.pool:
            faults.append("training.batch.pool has no effect without objective.consistency")
        faults += _partner_faults(self.training)
        faults += _balance_faults(self.calibrators, plan.max_copies)
        if self.policy.num_rounds > 1 and not plan.selected and not reads_pool:
            faults.append("no later round would read the pool: training.batch.selected is 0")
        faults += [
            f"{path} moves over steps, which the stored table does not have"
            for name in ("filters", "calibrators", "selector")
            for path in schedules_over_steps(getattr(self, name), name)
        ]
        if self.training.objective.doubly_robust is not None and not self.labelling.out_of_fold:
            faults.append(
                "objective.doubly_robust needs labelling.out_of_fold of at least 2 folds: a "
                "student seldom errs on labels that it was trained on"
            )
        if not self.labelling.out_of_fold:
            readers = [("selector", self.selector), *(("calibrator", c) for c in self.calibrators)]
            faults += [
                f"{what} {each.kind} needs labelling.out_of_fold of at least 2 folds"
                for what, each in readers
                if each.needs_labelled
            ]
        if self.filters and not self.labelling.doubts:
            faults.append(
                "filters read how far label sources are apart: set labelling.students, passes, "
                "remember, or a foreign source in all rounds"
            )
        if self.labelling.passes > 1 and not _has_dropout(self.student):
            faults.append("labelling.passes needs dropout in the student, without it all are equal")
        if self.labelling.out_of_fold == 1:
            faults.append("labelling.out_of_fold must be 0 or at least 2")
        if faults:
            raise ValueError("; ".join(faults))
        return self
