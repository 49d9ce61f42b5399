"""The steps of a run whose rows have classes: for each, its identity and its job."""

from collections.abc import Sequence
from typing import Any

from orchestrator.base_steps import BaseSteps, Step
from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.job import (
    CombineJob,
    CrossLabelJob,
    ExtendJob,
    Fold,
    LabelJob,
    SelectJob,
    TrainJob,
)
from orchestrator.reads import (
    check_workers,
    content_of,
    form_of,
    labels_alone,
    placed,
    reading,
    resolve_training,
    student_read,
)
from orchestrator.recipe import Recipe
from trainables.foreign import ForeignSource, files_of
from trainables.models import begins_trained
from trainables.randomness import derive
from trainables.schedules import at_round
from trainables.specialists import class_parts


class Steps(BaseSteps):
    """Builds the steps of a run whose rows have classes."""

    def __init__(self, config: RunConfig, data: Dataset) -> None:
        """Prepare to build steps.

        Raises:
            ConfigError: The recipe does not fit the data set.
        """
        assert isinstance(config.recipe, Recipe)  # noqa: S101 - `steps_of` chose
        super().__init__(config, data, form_of(config, data))
        self._recipe = config.recipe
        self.members = config.recipe.labelling.members
        self.folds = config.recipe.labelling.out_of_fold
        self.begins_with_labels = bool(config.recipe.labelling.foreign)
        self._num_rounds = config.recipe.policy.num_rounds
        self._student = student_read(config.recipe.student)
        check_workers(config)
        if 0 < self._data.num_classes < 2 * config.recipe.labelling.specialists:
            raise ConfigError(
                f"recipe.labelling.specialists is {config.recipe.labelling.specialists}, but the "
                f"data set's {data.num_classes} classes make no parts of at least 2: lower it"
            )

    def train(  # noqa: PLR0913 - what a training may read
        self,
        round_: int,
        *,
        selection: str | None,
        num_selected: int,
        start: str | None,
        out_of_fold: str | None = None,
        fold: Fold | None = None,
        member: int = 0,
        alone: bool = False,
    ) -> Step[TrainJob]:
        """Training of round ``round_`` on a selection of ``num_selected`` rows (None, 0: none).

        ``member`` tells the students of a round apart; they differ in their seed, and specialists
        in their classes. ``alone`` leaves out everything that reads the pool.
        """
        classes = self._classes_of(member)
        training = resolve_training(
            labels_alone(self._recipe.training) if alone else self._recipe.training,
            round_,
            self._num_rounds,
            has_selection=selection is not None,
            begins_trained=start is not None or begins_trained(self._recipe.student),
        )
        inputs = {"labelled": self._manifest.labelled.digest}
        if selection is not None:
            inputs["selection"] = selection
        extension = self.extend(round_, selection) if selection is not None else None
        if extension is not None:
            inputs["extension"] = extension.address
        if training.batch.pool:
            inputs["pool"] = self._manifest.pool.digest
        if start is not None:
            inputs["start"] = start
        if training.objective.doubly_robust is None:
            out_of_fold = None
        if out_of_fold is not None:
            inputs["out_of_fold"] = out_of_fold
        reads: dict[str, Any] = {"student": self._student, "training": training.plain()}
        if fold is not None:
            reads["fold"] = fold.plain()
        reads |= {"classes": list(classes)} if classes else {}
        policy = self._recipe.policy
        new_classifier = start is not None and policy.start == "warm_body"
        reads |= {"new_classifier": True} if new_classifier else {}
        labels_after = round_ + 1 < self._num_rounds or policy.label_last
        keeps = labels_after and fold is None and not alone
        keep_at = self._recipe.labelling.checkpoints if keeps else ()
        if keep_at:
            reads["keep_at"] = list(keep_at)
        names = ("train", round_, member) if member else ("train", round_)
        seed = derive(self._recipe.seed, *names)
        identity = self._identity("train", reads, inputs, seed)
        student = self._recipe.student
        if student.checkpoint is not None:
            student = student.model_copy(update={"checkpoint": student.checkpoint.absolute()})
        job = TrainJob(
            **self._job(identity),
            student=student,
            training=training,
            num_steps=training.steps.resolve(num_selected, training.batch.selected),
            seed=seed,
            selection=selection,
            start=start,
            new_classifier=new_classifier,
            fold=fold,
            out_of_fold=out_of_fold,
            classes=classes,
            extension=extension.address if extension is not None else None,
            keep_at=keep_at,
            rows_per_pass=self._placement.rows_per_pass,
            checkpoint_every_s=self._placement.checkpoint_every_s,
        )
        return Step(identity, job)

    def baseline(self) -> Step[TrainJob] | None:
        training = self._recipe.training
        labelled = training.batch.labelled_alone or training.batch.labelled
        first = resolve_training(training, 0, self._num_rounds, has_selection=False)
        more = first.batch.pool > 0 or self.begins_with_labels
        if not (self.policy.baseline and more and labelled):
            return None
        return self.train(0, selection=None, num_selected=0, start=None, alone=True)

    def extend(self, round_: int, selection: str) -> Step[ExtendJob] | None:
        """Images that join the selection in this round; None if the recipe makes none."""
        if (extension := self._recipe.extension) is None:
            return None
        inputs = {"selection": selection, "pool": self._manifest.pool.digest}
        seed = derive(self._recipe.seed, "extend", round_)
        identity = self._identity("extend", {"extension": extension.plain()}, inputs, seed)
        job = ExtendJob(**self._job(identity), selection=selection, extension=extension, seed=seed)
        return Step(identity, job)

    def sources(self, trains: Sequence[str]) -> dict[str, Step[LabelJob]]:
        """Labelling of the pool by each source of a round, by name.

        ``trains`` are the training steps of the round's students; none of them before round 0,
        where only foreign sources label. The first source gives the features, if any are read.
        """
        found = {}
        for number, train in enumerate(trains):
            name = f"label-{number}" if number else "label"
            classes = self._classes_of(number)
            features = self._recipe.reads_features and not number
            found[name] = self.label(train, features=features, classes=classes)
            for kept in range(len(self._recipe.labelling.checkpoints)):
                found[f"{name}-at-{kept}"] = self.label(train, kept, classes=classes)
        for number, source in enumerate(self._recipe.labelling.foreign):
            if source.rounds == "all" or not trains:
                when = "" if trains else "-before"
                features = self._recipe.reads_features and not found
                step = self._label_foreign(source, features=features)
                found[f"label-foreign-{number}{when}"] = step
        return found

    def _classes_of(self, member: int) -> tuple[int, ...]:
        """Classes of a round's student; none for one that knows all."""
        labelling = self._recipe.labelling
        if member < labelling.students:
            return ()
        parts = class_parts(self._data.num_classes, labelling.specialists)
        return parts[member - labelling.students]

    def label(
        self,
        train: str,
        checkpoint: int | None = None,
        *,
        features: bool = False,
        classes: tuple[int, ...] = (),
    ) -> Step[LabelJob]:
        """Labelling of the pool by the teacher of a training step, which knows these classes.

        ``checkpoint`` numbers a teacher that was kept on its way.
        """
        labelling = reading(self._recipe.labelling)
        inputs = {"train": train, "pool": self._manifest.pool.digest}
        reads: dict[str, Any] = {"labelling": labelling.plain()}
        reads |= {"features": True} if features else {}
        reads |= {"classes": list(classes)} if classes else {}
        reads |= {} if checkpoint is None else {"checkpoint": checkpoint}
        identity = self._identity("label", reads, inputs)
        job = LabelJob(
            **self._job(identity),
            train=train,
            checkpoint=checkpoint,
            labelling=labelling,
            classes=classes,
            features=features,
            rows_per_pass=self._placement.label_rows_per_pass,
        )
        return Step(identity, job)

    def _label_foreign(self, source: ForeignSource, *, features: bool) -> Step[LabelJob]:
        labelling = reading(self._recipe.labelling, once=True)
        read = source.plain() | content_of(files_of(source), "recipe.labelling.foreign")
        read.pop("rounds")
        inputs = {"pool": self._manifest.pool.digest}
        reads: dict[str, Any] = {"labelling": labelling.plain(), "source": read}
        reads |= {"features": True} if features else {}
        identity = self._identity("label", reads, inputs)
        job = LabelJob(
            **self._job(identity),
            source=placed(source),
            labelling=labelling,
            features=features,
            rows_per_pass=self._placement.label_rows_per_pass,
        )
        return Step(identity, job)

    def beside(self, tables: Sequence[str], before: Sequence[str]) -> list[str]:
        """Tables of a round's sources, then the first student's of the rounds before, each once.

        ``before`` are the first students' tables of all rounds before, in order.
        """
        earlier = list(dict.fromkeys(reversed(before)))
        earlier = [table for table in earlier if table not in tables]
        return [*tables, *earlier[: self._recipe.labelling.earlier]]

    def combine(
        self, predictions: Sequence[str], before: str | None, *, students: bool
    ) -> Step[CombineJob] | None:
        """One prediction table from those of several sources; None where one table is all.

        ``before`` are the combined predictions of the round before; ``students`` tells whether
        students are among the sources.
        """
        labelling = self._recipe.labelling
        several = len(predictions) > 1 or labelling.remember
        several = several or labelling.combine.kind == "specialists"  # it completes a lone one too
        says_doubt = students and labelling.in_passes
        read = any(each.needs_doubt for each in self._recipe.filters)
        read = read or self._recipe.ranking == "agreement"
        if not several and (says_doubt or not read):
            return None
        inputs = {f"source-{i}": address for i, address in enumerate(predictions)}
        if not labelling.remember:
            before = None
        if before is not None:
            inputs["before"] = before
        remember = labelling.remember if before is not None else 0.0
        reads = {"combine": labelling.combine.plain(), "remember": remember}
        seed = derive(self._recipe.seed, "combine")
        identity = self._identity("label", reads, inputs, seed)
        job = CombineJob(
            **self._job(identity),
            predictions=tuple(predictions),
            before=before,
            combine=labelling.combine,
            remember=remember,
            seed=seed,
        )
        return Step(identity, job)

    def cross_label(self, folds: tuple[str, ...], train: str | None = None) -> Step[CrossLabelJob]:
        """Out-of-fold predictions of the labelled rows by fold students.

        ``train`` is the training step whose teacher labels the pool.
        """
        labelling = reading(self._recipe.labelling)
        inputs = {f"fold-{i}": address for i, address in enumerate(folds)}
        inputs["labelled"] = self._manifest.labelled.digest
        nearness = train if self._recipe.reads_nearness else None
        if nearness is not None:
            inputs["train"] = nearness
        identity = self._identity("cross_label", {"labelling": labelling.plain()}, inputs)
        job = CrossLabelJob(**self._job(identity), folds=folds, train=nearness, labelling=labelling)
        return Step(identity, job)

    def cross_label_foreign(self) -> Step[CrossLabelJob]:
        """Predictions of the labelled rows by the foreign sources, which never saw them."""
        labelling, foreign = (
            reading(self._recipe.labelling, once=True),
            self._recipe.labelling.foreign,
        )
        combine = self._recipe.labelling.combine
        read = [
            source.plain() | content_of(files_of(source), "recipe.labelling.foreign")
            for source in foreign
        ]
        reads = {
            "labelling": labelling.plain(),
            "sources": [{k: v for k, v in each.items() if k != "rounds"} for each in read],
            "combine": combine.plain(),
        }
        inputs = {"labelled": self._manifest.labelled.digest}
        identity = self._identity("cross_label", reads, inputs)
        job = CrossLabelJob(
            **self._job(identity),
            sources=tuple(map(placed, foreign)),
            combine=combine,
            labelling=labelling,
        )
        return Step(identity, job)

    def select(
        self, round_: int, *, predictions: str, out_of_fold: str | None, previous: str | None
    ) -> Step[SelectJob]:
        """The selection that ends round ``round_``; the next round trains on it.

        The one that foreign sources give before round 0 ends round -1. Schedules begin with the
        first selection and reach their end at the last one that a round trains on.
        """
        early = bool(self._recipe.labelling.foreign)
        at, last = round_ + early, self._num_rounds - 1 + early
        selector = at_round(self._recipe.selector, at, last)
        calibrators = tuple(at_round(each, at, last) for each in self._recipe.calibrators)
        filters = tuple(at_round(each, at, last) for each in self._recipe.filters)
        targets = at_round(self._recipe.targets, at, last)
        inputs = {"predictions": predictions, "labelled": self._manifest.labelled.digest}
        if out_of_fold is not None:
            inputs["out_of_fold"] = out_of_fold
        if previous is not None:
            inputs["previous"] = previous
        if targets.kind == "hard":
            targets = targets.model_copy(update={"temperature": 1.0})  # hard targets read none
        if not calibrators:
            targets = targets.model_copy(update={"reads": "calibrated"})  # the two are the same
        reads: dict[str, Any] = {
            "ranking": self._recipe.ranking,
            "filters": [each.plain() for each in filters],
            "calibrators": [each.plain() for each in calibrators],
            "selector": selector.plain(),
            "targets": targets.plain(),
        }
        remaining = previous is not None and self._recipe.policy.pool == "remaining"
        if remaining:
            reads["chooses_from"] = "remaining"
        seed = derive(self._recipe.seed, "select")
        identity = self._identity("select", reads, inputs, seed)
        job = SelectJob(
            **self._job(identity),
            predictions=predictions,
            out_of_fold=out_of_fold,
            previous=previous,
            remaining=remaining,
            ranking=self._recipe.ranking,
            filters=filters,
            calibrators=calibrators,
            selector=selector,
            targets=targets,
            seed=seed,
        )
        return Step(identity, job)
