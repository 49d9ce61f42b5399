"""What all steps of a run share: their identity, their job, and those that every task has.

An identity holds exactly what its kind of step reads: settings resolved to plain numbers for the
round, addresses of inputs, the seed. Names, placement and tracking never enter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.jobs.job import AuditJob, Fold, Form, Job, ScoreJob
from orchestrator.store.store import Identity

AnyJob = TypeVar("AnyJob", bound=Job, covariant=True)

CODE: Mapping[str, int] = {
    "train": 4,
    "label": 3,
    "cross_label": 2,
    "select": 2,
    "score": 2,
    "audit": 3,
    "extend": 1,
}
"""Versions of the code behind each kind; raise one when the same inputs give another result."""


@dataclass(frozen=True)
class Step(Generic[AnyJob]):
    """One step: who it is and what to do."""

    identity: Identity
    job: AnyJob

    @property
    def kind(self) -> str:
        return self.identity.kind

    @property
    def address(self) -> str:
        return self.job.address


class BaseSteps:
    """Builds the steps of one run; a task adds how it trains, labels and selects.

    What stands here for sources, combining, extending and out-of-fold labels is what a task has
    that knows none of them.
    """

    members = 1
    """Students that each round trains."""
    folds = 0
    """Fold students that label the labelled rows."""
    begins_with_labels = False
    """Whether sources from elsewhere label before round 0."""

    def __init__(self, config: RunConfig, data: Dataset, form: Form) -> None:
        self._placement, self._data, self.form = config.placement, data, form
        self._store, self._manifest = config.store, data.manifest
        self.policy, self._scoring = config.recipe.policy, config.recipe.scoring
        self.reads_pool = config.recipe.training.reads_pool

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
    ) -> Step[Any]:
        """Training of round ``round_`` on a selection of ``num_selected`` rows (None, 0: none)."""
        raise NotImplementedError

    def sources(self, trains: Sequence[str]) -> Mapping[str, Step[Any]]:
        """Labelling of the pool by each source of a round, by name."""
        raise NotImplementedError

    def select(
        self, round_: int, *, predictions: str, out_of_fold: str | None, previous: str | None
    ) -> Step[Any]:
        """The selection that ends round ``round_``; the next round trains on it."""
        raise NotImplementedError

    def baseline(self) -> Step[Any] | None:
        """Training on labels alone, to hold round 0 against; None where round 0 is just that."""
        return None

    def extend(self, round_: int, selection: str) -> Step[Any] | None:
        """Images that join the selection in this round; None if the recipe makes none."""
        del round_, selection
        return None

    def beside(self, tables: Sequence[str], before: Sequence[str]) -> list[str]:
        """Tables of a round's sources, and those of rounds before that count as well."""
        del before
        return list(tables)

    def combine(
        self, predictions: Sequence[str], before: str | None, *, students: bool
    ) -> Step[Any] | None:
        """One prediction table from those of several sources; None where one table is all."""
        del predictions, before, students
        return None

    def cross_label(self, folds: tuple[str, ...], train: str | None = None) -> Step[Any]:
        """Out-of-fold predictions of the labelled rows by fold students."""
        raise NotImplementedError

    def cross_label_foreign(self) -> Step[Any]:
        """Predictions of the labelled rows by sources from elsewhere."""
        raise NotImplementedError

    def score(self, train: str) -> Step[ScoreJob]:
        """Scores of a training step's teacher on validation and test."""
        inputs = {
            "train": train,
            "validation": self._manifest.validation.digest,
            "test": self._manifest.test.digest,
        }
        identity = self._identity("score", {"scoring": self._scoring.plain()}, inputs)
        job = ScoreJob(**self._job(identity), train=train, scoring=self._scoring)
        return Step(identity, job)

    def audit(
        self,
        selection: str,
        *,
        predictions: str,
        selection_before: str | None = None,
        predictions_before: str | None = None,
    ) -> Step[AuditJob]:
        """A look at a selection: what it holds, what changed, precision against hidden labels."""
        inputs = {
            "selection": selection,
            "predictions": predictions,
            "hidden": self._manifest.hidden.digest,
            "labelled": self._manifest.labelled.digest,
        }
        if selection_before is not None:
            inputs["selection_before"] = selection_before
        if predictions_before is not None:
            inputs["predictions_before"] = predictions_before
        identity = self._identity("audit", {}, inputs)
        job = AuditJob(
            **self._job(identity),
            selection=selection,
            predictions=predictions,
            selection_before=selection_before,
            predictions_before=predictions_before,
            labelled_rows=self._data.labelled_rows,
        )
        return Step(identity, job)

    def _identity(
        self, kind: str, reads: Mapping[str, Any], inputs: Mapping[str, str], seed: int = 0
    ) -> Identity:
        whole = {**reads, "form": self.form.plain(), "task": self._data.task.plain()}
        return Identity(kind, CODE[kind], whole, inputs, seed)

    def _job(self, identity: Identity) -> dict[str, Any]:
        return {
            "store": self._store,
            "data": self._data.root,
            "address": identity.address,
            "task": self._data.task,
            "form": self.form,
        }
