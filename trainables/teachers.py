"""Teacher rules: how a teacher follows its student inside a round."""

import copy
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from trainables.spec import Spec


class StudentIsTeacher(Spec):
    """The trained student itself labels the pool."""

    kind: Literal["student"] = "student"


class ExponentialAverage(Spec):
    """The teacher is the exponential moving average of the student's weights.

    Source: Tarvainen and Valpola, Mean teachers, NeurIPS 2017, arXiv:1703.01780, section 2; the
    early steps use min(decay, 1 - 1 / (t + 1)) as in the released code. Floating buffers (batch
    norm statistics) are averaged like weights, counters are copied.
    """

    kind: Literal["ema"] = "ema"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Weight of the old average at each step."""


TeacherRule = Annotated[StudentIsTeacher | ExponentialAverage, Field(discriminator="kind")]


def start_teacher(rule: StudentIsTeacher | ExponentialAverage, student: nn.Module) -> nn.Module:
    """The teacher at step 0: the student itself, or a frozen copy of it."""
    if isinstance(rule, StudentIsTeacher):
        return student
    teacher = copy.deepcopy(student).eval()
    return teacher.requires_grad_(requires_grad=False)


@torch.no_grad()
def follow(
    rule: StudentIsTeacher | ExponentialAverage, teacher: nn.Module, student: nn.Module, step: int
) -> None:
    """Move the teacher after the student's optimiser step ``step`` (0-based)."""
    if isinstance(rule, StudentIsTeacher):
        return
    decay = min(rule.decay, 1 - 1 / (step + 1))
    ours, theirs = teacher.state_dict(), student.state_dict()
    moving = [name for name, value in ours.items() if value.is_floating_point()]
    torch._foreach_lerp_([ours[n] for n in moving], [theirs[n] for n in moving], 1 - decay)
    for name in ours.keys() - set(moving):
        ours[name].copy_(theirs[name])
