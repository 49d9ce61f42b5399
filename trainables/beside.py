"""What trains and is remembered beside a student: heads, kept rows, and the terms that read them.

Legend: b rows of this worker.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables import teachers
from trainables.auxiliary import Known, RepresentationSpec, Trained
from trainables.heads import Outputs, build_heads
from trainables.kept_rows import KeptRows
from trainables.loader import POOL, SECOND, SELECTED, TURNED
from trainables.models import classifier_of
from trainables.schedules import Moment
from trainables.teachers import TeacherRule
from trainables.worker import Worker


@dataclass
class Representation:
    """The heads of a fit and the rows that it keeps; none of it is delivered."""

    heads: nn.ModuleDict
    """The student's heads."""
    teacher_heads: nn.ModuleDict
    """The teacher's, which follow them; the same object if the student is the teacher."""
    kept: KeptRows | None
    """Kept rows, if the objective has an embedding."""

    @classmethod
    def begin(
        cls,
        spec: RepresentationSpec,
        rule: TeacherRule,
        model: nn.Module,
        num_classes: int,
        seed: int,
    ) -> "Representation":
        """The state before the first step; the seed decides initial weights."""
        embedding = spec.embedding
        width = embedding.width if embedding is not None else 0
        heads = build_heads(spec.heads, model, num_classes, width, seed)
        heads = heads.to(next(model.parameters()).device)
        followers = teachers.start_teacher(rule, heads)
        assert isinstance(followers, nn.ModuleDict)  # noqa: S101 - a copy of the heads
        kept = None
        if embedding is not None:
            kept = KeptRows(embedding, num_classes, width or classifier_of(model).in_features)
        return cls(heads, followers, kept)

    def follow(self, rule: TeacherRule, step: int) -> None:
        """Move the teacher's heads after the student's step (0-based)."""
        if any(True for _ in self.heads.parameters()):
            teachers.follow(rule, self.teacher_heads, self.heads, step)


@dataclass(frozen=True)
class Beside:
    """The auxiliary terms of one step."""

    spec: RepresentationSpec
    moment: Moment
    known: Known
    quarters: Tensor
    """Quarter turns of this worker's turned views, int64 [b]."""
    worker: Worker

    def of(self, outputs: Outputs, term: Tensor) -> dict[str, Tensor]:
        """Terms by name, each a scalar; ``term`` tells what each row [b] is trained as."""
        trained = Trained(
            strong=outputs.rows(term == POOL),
            second=outputs.rows(term == SECOND),
            turned=outputs.rows(term == TURNED),
            quarters=self.quarters,
        )
        return {
            name: self.moment.value(each.weight) * each.value(self.known, trained, self.worker)
            for name, each in self.spec.terms.items()
        }

    def apart(self, term: Tensor) -> Tensor | None:
        """Rows [b] whose labels move the classifier and not the features, bool; None: no row."""
        turns = self.spec.turns
        if turns is None or turns.apart_from == 1 or self.moment.share < turns.apart_from:
            return None
        term = term.to(self.worker.device)
        return torch.isin(term, torch.tensor([POOL, SELECTED], device=term.device))
