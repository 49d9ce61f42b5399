"""Recipe: everything that decides a run's outcome, and nothing that does not."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.augment import WEAK, ViewSpec
from trainables.calibrators import Align, FromFeatures, Transport
from trainables.combining import Combiner, Mean
from trainables.filters import Filter
from trainables.foreign import CallableSource, ForeignSource, PrototypeSource
from trainables.generators import Extension
from trainables.models import AnyModel, ModelSpec, TimmModel, begins_trained
from trainables.nearby import TableCalibrator
from trainables.own_networks import SmallCnn
from trainables.partners import Peer
from trainables.ranking import Ranking
from trainables.schedules import schedules_over_steps
from trainables.selectors.fixed import ClassShare
from trainables.selectors.library import Selector, fills
from trainables.selectors.located import Compactness, ExpectedReward
from trainables.spec import Spec
from trainables.student import TrainingSpec
from trainables.targets import TargetSpec
from trainables.teachers import ExponentialAverage
from trainables.update import Precision
from trainables.weighting import Dual, Neighbourhood


class ImageSpec(Spec):
    """The form in which a student sees an image."""

    size: Annotated[int, Field(ge=4, le=2048)] | None = None
    """Side in pixels after resizing and centre cropping; None keeps the data set's own size."""
    channels: Literal[1, 3] | None = None
    """1 grey, 3 colour; None keeps the data set's own."""


class ScoringSpec(Spec):
    """How a student is asked about a row when it is scored, and by default after an export.

    What labels the pool is said apart, by `labelling`.
    """

    flips: bool = False
    """Average over the image and its mirror image."""
    views: Annotated[int, Field(ge=1, le=100)] = 1
    """Views that are asked: the image itself, then weak views of it. Of probabilities the mean
    counts, of points the median."""
    view: ViewSpec = WEAK
    """How these weak views are drawn."""


class LabellingSpec(Spec):
    """How the teacher's beliefs about the pool are read."""

    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Logits are divided by this before they become probabilities."""
    flips: bool = False
    """Average the probabilities of the image and of its mirror image."""
    precision: Precision = "float32"
    """Arithmetic of the networks that label; what they say is float32 all the same."""
    out_of_fold: Annotated[int, Field(ge=0, le=20)] = 0
    """Folds for predictions on labelled rows by students that never saw them; 0 makes none."""
    students: Annotated[int, Field(ge=1, le=100)] = 1
    """Students of different seeds that each round trains and that label together; the first one is
    scored and delivered."""
    specialists: Annotated[int, Field(ge=0, le=1000)] = 0
    """Further students, each trained on an equal part of the classes of which alone it speaks."""
    passes: Annotated[int, Field(ge=1, le=1000)] = 1
    """Times that each student labels a row; above 1 its dropout stays on and draws anew."""
    views: Annotated[int, Field(ge=1, le=100)] = 1
    """Views of a row that each student labels: the image itself, then weak views of it."""
    view: ViewSpec = WEAK
    """How these weak views are drawn."""
    foreign: tuple[ForeignSource, ...] = ()
    """Networks or functions from elsewhere that label before round 0, or in every round."""
    combine: Combiner = Mean()
    """How the labels of several sources become one."""
    checkpoints: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Shares of a round after which each student's teacher is kept, to label beside the final
    one."""
    remember: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share with which a row's labels of the round before count: an average over rounds."""
    earlier: Annotated[int, Field(ge=0, le=20)] = 0
    """Rounds before whose first student labels beside the present ones, from its stored table."""

    @property
    def one_source(self) -> bool:
        """Whether each round's labels are those of one student as they are."""
        beside = any(source.rounds == "all" for source in self.foreign)
        alone = self.members == 1 and not self.checkpoints
        return alone and not beside and not self.remember and not self.earlier

    @property
    def members(self) -> int:
        """Students that each round trains: those of all classes, then the specialists."""
        return self.students + self.specialists

    @property
    def partial(self) -> bool:
        """Whether a source speaks of some classes only."""
        maps = [each.classes for each in self.foreign if not isinstance(each, PrototypeSource)]
        return bool(self.specialists) or any(() in classes for classes in maps)

    @property
    def in_passes(self) -> bool:
        """Whether each student labels a row more than once."""
        return self.passes > 1 or self.views > 1

    @property
    def doubts(self) -> bool:
        """Whether every prediction table says how far its sources are apart."""
        return not self.one_source or self.in_passes


class RoundPolicy(Spec):
    """What happens between rounds."""

    num_rounds: Annotated[int, Field(ge=1, le=1000)] = 4
    """Rounds to play, counting round 0, which trains on labels alone."""
    start: Literal["restart", "warm", "warm_body"] = "restart"
    """A round's student starts anew, or from the teacher of the last accepted round: from all of
    it ('warm'), or from all but its classifier, which begins anew."""
    pool: Literal["relabel_all", "keep", "remaining"] = "relabel_all"
    """Choose from the whole pool each round; or keep accepted rows with their first label, and fit
    the selector on the whole pool all the same ('keep') or on the rows that remain."""
    deliver: Literal["best", "last"] = "best"
    """Which accepted round the run delivers: the best on validation, or the last."""
    roll_back_below: Annotated[float, Field(ge=0, le=1)] | None = None
    """Roll a round back if its validation score falls by more than this share; None never."""
    baseline: bool = True
    """Where round 0 reads more than labels: train on labels alone as well, for as many steps, to
    tell what the method is worth."""
    label_last: bool = True
    """Label and select once more after the last round: by the last kept teacher."""
    patience_rounds: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many rounds in a row without a better validation; None never."""


def _has_dropout(student: AnyModel) -> bool:
    return bool(student.drop_rate if isinstance(student, TimmModel) else student.dropout)


def _partner_faults(training: TrainingSpec) -> list[str]:
    """What a partner or a look ahead can't go together with."""
    faults, term = [], training.objective.consistency
    if isinstance(training.partner, Peer) and term is None:
        faults.append("training.partner peer needs objective.consistency: it says what they learn")
    if training.meta is not None:
        name = "partner meta_teacher" if training.self_meta is None else "self_meta"
        if term is not None:
            faults.append(f"training.{name} has a consistency of its own: remove the term")
        if training.batch.selected:
            faults.append(f"training.{name} needs training.batch.selected of 0")
    if training.self_meta is not None and training.partner is not None:
        faults.append("training.self_meta and training.partner exclude each other")
    if training.look_ahead is not None:
        from_teacher = term is not None and term.labels_from == "teacher"
        if not from_teacher or not isinstance(training.teacher, ExponentialAverage):
            faults.append(
                "training.look_ahead needs an EMA teacher and consistency.labels_from: teacher"
            )
        if training.partner is not None or training.self_meta is not None:
            other = "self_meta" if training.partner is None else "partner"
            faults.append(f"training.look_ahead and training.{other} exclude each other")
    alone = training.partner is None and training.look_ahead is None and training.self_meta is None
    if training.objective.representation is not None and not alone:
        faults.append(
            "training.objective.representation acts on a student that trains alone: remove "
            "training.partner, self_meta and look_ahead"
        )
    return faults


def _unlabelled_faults(training: TrainingSpec) -> list[str]:
    """What can't be without labelled rows in a batch."""
    objective, plan, term = training.objective, training.batch, training.objective.consistency
    if plan.labelled:
        if objective.labelled.weight != 0:
            return []
        return [
            "objective.labelled.weight is 0, but labelled rows would enter batch statistics: set "
            "training.batch.labelled to 0 instead"
        ]
    readers = [
        ("objective.doubly_robust", objective.doubly_robust is not None),
        ("a meta teacher", training.meta is not None),
        (
            "objective.consistency",
            term is not None and (term.needs_labelled or term.trains_labelled),
        ),
    ]
    faults = [f"{name} needs training.batch.labelled above 0" for name, there in readers if there]
    early = term.first_round == 0 if term is not None else objective.entropy is not None
    if plan.labelled_alone is None and not early:
        faults.append(
            "round 0 would train on no rows: set training.batch.labelled_alone, or "
            "objective.consistency.first_round to 0"
        )
    return faults


def _specialist_faults(labelling: LabellingSpec, *, reads_pool: bool) -> list[str]:
    """What sources that speak of some classes only can't go together with."""
    faults = []
    if labelling.specialists == 1:
        faults.append("labelling.specialists must be 0 or at least 2: each knows a part")
    if labelling.partial and labelling.combine.kind != "specialists":
        faults.append(
            "labelling has sources that speak of some classes only: set its combine to "
            "{kind: specialists}, others take their silence for a claim"
        )
    if labelling.specialists and reads_pool:
        faults.append(
            "labelling.specialists can't learn from pool rows of all classes: set "
            "training.batch.pool to 0 and remove objective.consistency"
        )
    return faults


def _balance_faults(calibrators: tuple[TableCalibrator, ...], max_copies: int) -> list[str]:
    """Class balance is corrected once: twice overshoots."""
    ways = [f"calibrator {c.kind}" for c in calibrators if isinstance(c, Align | Transport)]
    ways += ["training.batch.max_copies"] if max_copies > 1 else []
    if len(ways) < 2:
        return []
    return [f"{' and '.join(ways)} each correct the class balance: keep one of them"]


class Recipe(Spec):
    """Everything that decides the outcome of a run whose rows have classes."""

    task: Literal["classification"] = "classification"
    """What labels are: classes."""
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
    scoring: ScoringSpec = ScoringSpec()
    """How students are asked when they are scored."""
    ranking: Ranking = "confidence"
    """What selectors order rows by: the label's probability, how far it is above the second, how
    low the row's entropy is, or first the share of sources that predict the label."""
    filters: tuple[Filter, ...] = ()
    """What holds rows back before anything else, by how sure label sources are or how far apart."""
    calibrators: tuple[TableCalibrator, ...] = ()
    """Corrections of the teacher's beliefs before the selector sees them, one after the other."""
    selector: Selector = ClassShare()
    """Which beliefs become pseudo-labels."""
    targets: TargetSpec = TargetSpec()
    """What accepted rows are trained towards."""
    extension: Extension | None = None
    """Images made for each class that join the selection; none by default."""
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
        faults += _unlabelled_faults(self.training)
        faults += _start_faults(self)
        faults += _balance_faults(self.calibrators, plan.max_copies)
        if (term := self.training.objective.consistency) is not None and plan.max_copies > 1:
            faults += _balance_faults(term.calibrators, plan.max_copies)
        if self.policy.num_rounds > 1 and not plan.selected and not reads_pool:
            faults.append("no later round would read the pool: training.batch.selected is 0")
        faults += [
            f"{path} moves over steps, which the stored table does not have"
            for name in ("filters", "calibrators", "selector", "targets")
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
        faults += self._feature_faults()
        faults += _specialist_faults(self.labelling, reads_pool=reads_pool)
        faults += _doubt_faults(self)
        faults += _extension_faults(self)
        if self.labelling.passes > 1 and not _has_dropout(self.student):
            faults.append("labelling.passes needs dropout in the student, without it all are equal")
        if self.labelling.out_of_fold == 1:
            faults.append("labelling.out_of_fold must be 0 or at least 2")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def reads_features(self) -> bool:
        """Whether the prediction table must say where rows lie in feature space."""
        return bool(_feature_readers(self))

    @property
    def reads_nearness(self) -> bool:
        """Whether labelled rows must be held against the classes of networks that never saw them.

        They are by fold students alone.
        """
        return isinstance(self.selector, ExpectedReward)

    def _feature_faults(self) -> list[str]:
        """What parts that read features can't go together with."""
        readers, foreign = _feature_readers(self), self.labelling.foreign
        if not readers:
            return []
        faults = []
        if foreign and isinstance(foreign[0], CallableSource):
            faults.append(
                f"{readers[0]} reads features, and before round 0 those of the first of "
                "labelling.foreign, which as a function has none: name a network first"
            )
        if foreign and self.reads_nearness:
            faults.append(
                "selector reward learns from fold students, of which there are none before round "
                "0: remove labelling.foreign"
            )
        located = [isinstance(each, FromFeatures) for each in self.calibrators]
        behind = self.calibrators[located.index(True) :] if any(located) else ()
        needy = [f"calibrator {each.kind}" for each in behind if each.needs_labelled]
        if behind and self.selector.needs_labelled:
            needy.append(f"selector {self.selector.kind}")
        faults += [
            f"{each} reads out-of-fold predictions, which {readers[0]} can't correct, since fold "
            "students have feature spaces of their own: put it first or remove one of them"
            for each in needy
        ]
        return faults


def _feature_readers(recipe: Recipe) -> list[str]:
    """The parts of a recipe that read where rows lie in feature space."""
    found = [f"calibrator {c.kind}" for c in recipe.calibrators if isinstance(c, FromFeatures)]
    if isinstance(recipe.selector, Compactness | ExpectedReward):
        found.append(f"selector {recipe.selector.kind}")
    if isinstance(recipe.targets.weight, Neighbourhood | Dual):
        found.append(f"weighting {recipe.targets.weight.kind}")
    return found


def _start_faults(recipe: Recipe) -> list[str]:
    """What students that begin anew can't do."""
    anew = recipe.policy.start == "restart" and not begins_trained(recipe.student)
    if recipe.training.optimiser.trains == "all" or not anew:
        return []
    return [
        "training.optimiser.trains has no effect on students that begin anew: set policy.start to "
        "warm or give student.checkpoint"
    ]


def _doubt_faults(recipe: Recipe) -> list[str]:
    """What can't read how far label sources are apart."""
    faults: list[str] = []
    readers = [f"filter {each.kind}" for each in recipe.filters if each.needs_doubt]
    readers += ["ranking: agreement"] * (recipe.ranking == "agreement")
    if readers and not recipe.labelling.doubts:
        read = "read" if len(readers) > 1 else "reads"
        faults.append(
            f"{' and '.join(readers)} {read} how far label sources are apart: set "
            "labelling.students, checkpoints, passes, views, remember, earlier, or a foreign "
            "source in all rounds"
        )
    whole = recipe.selector.needs_sample or fills(recipe.selector)
    if recipe.ranking != "confidence" and (recipe.calibrators or whole):
        other = "calibrators" if recipe.calibrators else f"selector {recipe.selector.kind}"
        faults.append(f"ranking: {recipe.ranking} has no say behind {other}: leave one of them out")
    return faults


def _extension_faults(recipe: Recipe) -> list[str]:
    """Why made images would join nothing."""
    if recipe.extension is None:
        return []
    if not recipe.training.batch.selected:
        return ["extension has no effect: training.batch.selected is 0"]
    if recipe.policy.num_rounds == 1 and not recipe.labelling.foreign:
        return ["extension has no effect: the only round has no selection"]
    return []
