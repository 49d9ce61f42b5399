"""The contract of a task: everything that rounds must know of a kind of label.

What is common to all tasks (rounds, addresses, resuming, sharding, sweeps, reports) is written once
against it. Labels cross processes as Arrow columns; a label is made of *elements* with names: a row
of a classification task is one element named by its class, a row of landmarks has one element for
each point. Elements are what selectors choose from and what reports count.

Legend: N rows, E elements of them.
"""

from typing import Annotated, Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field, TypeAdapter
from torch import nn

from trainables.landmarks.network import LandmarkNetworkSpec
from trainables.models import AnyModel, TimmModel
from trainables.tasks.classification import Classification
from trainables.tasks.kinds import Classes, TaskSpec
from trainables.tasks.landmarks import Landmarks
from trainables.tasks.outcomes import Accepted, Changed, Judged, Shown

AnyStudent = AnyModel | LandmarkNetworkSpec
ANY_STUDENT: TypeAdapter[AnyStudent] = TypeAdapter(
    Annotated[
        AnyModel | LandmarkNetworkSpec,
        Field(discriminator="kind"),
    ]
)
"""Reads a student's settings that were stored."""


class Task(Protocol):
    """What rounds, selections and reports know of a kind of label."""

    @property
    def num_names(self) -> int:
        """Names that labels count by: classes, or points."""

    def network(self, student: AnyStudent, channels: int, size: int) -> nn.Module:
        """The student with the head that the labels need.

        Raises:
            ValueError: The student is of another task.
        """

    def measure(self, truth: pa.Table, told: pa.Table) -> dict[str, float]:
        """Scores of predictions against ground truth, rows in the same order.

        ``score`` is the one that decisions read: in [0, 1], more is better.
        """

    def predicted(self, told: pa.Table) -> np.ndarray:
        """Predicted elements by name, int64 [num_names]."""

    def accepted(self, chosen: pa.Table, told: pa.Table) -> Accepted:
        """The elements of a selection, chosen from this prediction table."""

    def judged(self, chosen: pa.Table, truth: pa.Table) -> Judged:
        """Accepted elements whose truth is known, and those of them that are right."""

    def known(self, truth: pa.Table) -> int:
        """Elements of ground truth."""

    def drawn(self, pixels: np.ndarray, shown: Shown, names: tuple[str, ...]) -> np.ndarray:
        """An image uint8 [C, H, W] with what a round says of it, uint8 [3, H', W'], to look at."""

    def said(
        self, example_id: str, told: pa.Table, chosen: pa.Table, names: tuple[str, ...]
    ) -> list[str]:
        """What a round says of a row, and what became of it, in words, one line each.

        The tables are those of the row's fragment: what was not accepted is held against the least
        sure of those that were.
        """

    def truth_said(self, truth: pa.Table, names: tuple[str, ...]) -> str:
        """The ground truth of a row in words; the table holds that row or none."""

    def changed(self, now: pa.Table, before: pa.Table) -> Changed:
        """How many elements two prediction tables of the same rows tell otherwise."""


def task_of(spec: TaskSpec) -> Task:
    """The task of a data set."""
    return Classification(spec) if isinstance(spec, Classes) else Landmarks(spec)


def without_weights(student: AnyStudent) -> AnyStudent:
    """The same network begun at random: its weights come from elsewhere."""
    plain = student.model_copy(update={"checkpoint": None})
    if isinstance(plain, TimmModel):
        same = {"pretrained": False, "new_classifier": False, "normalise": plain.normalised}
        return plain.model_copy(update=same)
    if isinstance(plain, LandmarkNetworkSpec) and plain.backbone.kind == "timm":
        backbone = plain.backbone.model_copy(update={"pretrained": False})
        return plain.model_copy(update={"backbone": backbone})
    return plain
