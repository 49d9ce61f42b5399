"""Teacher rules: how a teacher follows its student inside a round."""

import copy
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.spec import Spec


class StudentIsTeacher(Spec):
    """The trained student itself labels the pool."""

    kind: Literal["student"] = "student"


class ExponentialAverage(Spec):
    """The teacher is the exponential moving average of the student's weights.

    Source: Tarvainen and Valpola, Mean teachers, NeurIPS 2017, arXiv:1703.01780, section 2; the
    early steps use min(decay, 1 - 1 / (t + 1)) as in the released code. Counters are copied.
    Departs from the released codes: floating buffers (batch norm statistics) are averaged like
    weights, where some copy the student's and some let the teacher gather its own.
    """

    kind: Literal["ema"] = "ema"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Weight of the old average at each step."""


class QueueMean(Spec):
    """The teacher follows the mean of the student's last snapshots, all with equal weight.

    Source: Kaddour, Latest weight averaging, 2022, arXiv:2209.14981, with snapshots by
    steps instead of epochs; the recursive average filtering of TSAL, Meng et al., arXiv:2012.06711.
    Until the queue is full the mean is over the snapshots so far. Floating buffers are averaged
    like weights, counters are copied. A queue of one snapshot, taken at every step, is a plain
    exponential average of decay 1 - ``share``.
    """

    kind: Literal["queue"] = "queue"
    length: Annotated[int, Field(ge=1, le=100)] = 5
    """Snapshots in the queue; each holds all weights in memory and in checkpoints."""
    push_every: Annotated[int, Field(ge=1)] = 20
    """Steps from one snapshot to the next; the first step gives the first one."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the way that the teacher goes to the mean at each snapshot; 1 makes it the mean."""


AnyRule = StudentIsTeacher | ExponentialAverage | QueueMean
TeacherRule = Annotated[AnyRule, Field(discriminator="kind")]


@dataclass
class Snapshots:
    """What a queue holds: the last weights, oldest first, and their sum."""

    kept: list[dict[str, Tensor]] = field(default_factory=list)
    total: dict[str, Tensor] = field(default_factory=dict)
    """Sums in float64, from which what is dropped is taken away again."""

    def push(self, weights: dict[str, Tensor], length: int) -> dict[str, Tensor]:
        """Take in new weights, drop the oldest beyond ``length``; the mean of those that stay."""
        new = {name: w.detach().clone() for name, w in weights.items() if w.is_floating_point()}
        self.kept.append(new)
        for name, value in new.items():
            old = self.total.get(name)
            self.total[name] = value.double() if old is None else old + value.double()
        while len(self.kept) > length:
            for name, value in self.kept.pop(0).items():
                self.total[name] = self.total[name] - value.double()
        return {name: value / len(self.kept) for name, value in self.total.items()}


def start_teacher(rule: AnyRule, student: nn.Module) -> nn.Module:
    """The teacher at step 0: the student itself, or a frozen copy of it."""
    if isinstance(rule, StudentIsTeacher):
        return student
    teacher = copy.deepcopy(student).eval()
    return teacher.requires_grad_(requires_grad=False)


@torch.no_grad()
def follow(
    rule: AnyRule,
    teacher: nn.Module,
    student: nn.Module,
    step: int,
    snapshots: Snapshots | None = None,
) -> None:
    """Move the teacher after the student's optimiser step ``step`` (0-based).

    ``snapshots`` is what a queue holds; other rules read none.
    """
    if isinstance(rule, StudentIsTeacher):
        return
    if isinstance(rule, QueueMean):
        if snapshots is None:
            raise ValueError("a queue needs its snapshots")
        if step % rule.push_every == 0:
            theirs = student.state_dict()
            mean = snapshots.push(theirs, rule.length)
            for name, value in teacher.state_dict().items():
                if name in mean:
                    value.lerp_(mean[name].to(value.dtype), rule.share)
                else:
                    value.copy_(theirs[name])
        return
    decay = min(rule.decay, 1 - 1 / (step + 1))
    ours, theirs = teacher.state_dict(), student.state_dict()
    moving = [name for name, value in ours.items() if value.is_floating_point()]
    torch._foreach_lerp_([ours[n] for n in moving], [theirs[n] for n in moving], 1 - decay)
    for name in ours.keys() - set(moving):
        ours[name].copy_(theirs[name])
