"""The steps of a run whose rows have points: for each, its identity and its job."""

from collections.abc import Sequence
from typing import Any

from orchestrator.base_steps import BaseSteps, Step
from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.job import Fold, ImageForm, PointLabelJob, PointSelectJob, PointTrainJob
from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.reads import check_workers, content_of, image_form
from trainables.landmarks.settings import LandmarkObjective, LandmarkTraining
from trainables.randomness import derive
from trainables.schedules import at_round
from trainables.student import StepCount
from trainables.teachers import StudentIsTeacher


class LandmarkSteps(BaseSteps):
    """Builds the steps of a run whose rows have points."""

    def __init__(self, config: RunConfig, data: Dataset) -> None:
        """Prepare to build steps.

        Raises:
            ConfigError: The recipe does not fit the data set.
        """
        assert isinstance(config.recipe, LandmarkRecipe)  # noqa: S101 - `steps_of` chose
        super().__init__(config, data, form_of(config, data))
        self._recipe = config.recipe
        check_workers(config)
        if self._placement.rows_per_pass:
            raise ConfigError(
                "placement.rows_per_pass does not cut batches of landmarks: set it to 0"
            )

    def train(
        self,
        round_: int,
        *,
        selection: str | None,
        num_selected: int,
        start: str | None,
        out_of_fold: str | None = None,
        fold: Fold | None = None,
        member: int = 0,
    ) -> Step[PointTrainJob]:
        del out_of_fold, fold, member  # landmarks have one student a round
        training = resolve_training(
            self._recipe.training,
            round_,
            self.policy.num_rounds,
            has_selection=selection is not None,
        )
        inputs = {"labelled": self._manifest.labelled.digest}
        if selection is not None:
            inputs["selection"] = selection
        if training.reads_pool:
            inputs["pool"] = self._manifest.pool.digest
        if start is not None:
            inputs["start"] = start
        student = self._recipe.student
        reads: dict[str, Any] = {"student": student.plain(), "training": training.plain()}
        if student.checkpoint is not None:
            files = {"checkpoint": student.checkpoint}
            reads["student"] |= content_of(files, "recipe.student.checkpoint")
            student = student.model_copy(update={"checkpoint": student.checkpoint.absolute()})
        seed = derive(self._recipe.seed, "train", round_)
        identity = self._identity("train", reads, inputs, seed)
        job = PointTrainJob(
            **self._job(identity),
            student=student,
            training=training,
            num_steps=training.steps.resolve(num_selected, training.batch.selected),
            seed=seed,
            selection=selection,
            start=start,
            checkpoint_every_s=self._placement.checkpoint_every_s,
        )
        return Step(identity, job)

    def sources(self, trains: Sequence[str]) -> dict[str, Step[PointLabelJob]]:
        labelling, sigma_px = self._recipe.labelling, self._recipe.training.objective.sigma_px
        inputs = {"train": trains[0], "pool": self._manifest.pool.digest}
        reads = {"labelling": labelling.plain(), "sigma_px": sigma_px}
        identity = self._identity("label", reads, inputs)
        job = PointLabelJob(
            **self._job(identity),
            train=trains[0],
            labelling=labelling,
            sigma_px=sigma_px,
            rows_per_pass=max(1, self._placement.label_rows_per_pass // 8),
        )
        return {"label": Step(identity, job)}

    def select(
        self, round_: int, *, predictions: str, out_of_fold: str | None, previous: str | None
    ) -> Step[PointSelectJob]:
        del out_of_fold
        recipe = self._recipe
        selector = at_round(recipe.selector, round_, self.policy.num_rounds - 1)
        inputs = {"predictions": predictions}
        if previous is not None:
            inputs["previous"] = previous
        reads = {"ranking": recipe.ranking, "selector": selector.plain(), "weight": recipe.weight}
        seed = derive(recipe.seed, "select")
        identity = self._identity("select", reads, inputs, seed)
        job = PointSelectJob(
            **self._job(identity),
            predictions=predictions,
            previous=previous,
            ranking=recipe.ranking,
            selector=selector,
            weight=recipe.weight,
            seed=seed,
        )
        return Step(identity, job)


def form_of(config: RunConfig, data: Dataset) -> ImageForm:
    """Size and channels of the images, which are padded to squares.

    Raises:
        ConfigError: The images' size is not known, or does not fit the network's maps.
    """
    assert isinstance(config.recipe, LandmarkRecipe)  # noqa: S101 - the caller's task
    form = image_form(config.recipe.images, data, fit="pad")
    if form.size % 16:
        raise ConfigError(
            f"recipe.images.size is {form.size}, but a landmark network halves images four times: "
            f"choose a multiple of 16, such as {max(16, 16 * round(form.size / 16))}"
        )
    return form


def resolve_training(
    training: LandmarkTraining, round_: int, num_rounds: int, *, has_selection: bool
) -> LandmarkTraining:
    """The training settings that this round reads; what it does not read has its default."""
    resolved = at_round(training, round_, num_rounds)
    objective, batch, steps = resolved.objective, resolved.batch, resolved.steps
    if has_selection:
        steps = steps.model_copy(update={"first_round": 1})
    else:
        default = LandmarkObjective()
        unread = {"selected": default.selected, "selected_view": default.selected_view}
        objective = objective.model_copy(update=unread)
        labelled = batch.labelled if batch.labelled_alone is None else batch.labelled_alone
        batch = batch.model_copy(update={"selected": 0, "labelled": labelled})
        steps = StepCount(first_round=steps.first_round, most=steps.most)
    batch = batch.model_copy(update={"labelled_alone": None})
    parts: dict[str, Any] = {"objective": objective, "batch": batch, "steps": steps}
    for name in ("consistency", "two_sources"):
        term = getattr(resolved, name)
        if term is not None and round_ < term.first_round:
            parts |= {name: None, "batch": batch.model_copy(update={"pool": 0})}
        elif term is not None:
            parts[name] = term.model_copy(update={"first_round": 0})
    if parts.get("two_sources") is not None:  # the two follow each other, and no other rule
        parts["teacher"] = StudentIsTeacher()
    return resolved.model_copy(update=parts)
