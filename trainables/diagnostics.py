"""What a training tells of itself beside its terms. For reports alone.

Legend: C classes.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from trainables.landmarks.settings import LandmarkTraining
from trainables.schedules import Moment
from trainables.selectors.rules import Outlook
from trainables.spec import Spec
from trainables.state import TrainState
from trainables.step_tally import InStep
from trainables.student import TrainingSpec
from trainables.teachers import Snapshots
from trainables.update import Precision, autocast

POINT_TERMS = ("centre", "offset", "selected")
TERMS = ("labelled", "selected", "consistency", "balance", "entropy")


class Diagnostics(Spec):
    """A training at its end."""

    in_step: InStep | None = None
    """What its steps accepted of the pool; None where they labelled none of it."""
    term_weights: dict[str, float] = {}
    """Weight of each term in the last step."""
    teacher_distance: float | None = None
    """Norm of the teacher's parameters less the student's, as a share of the norm of the student's;
    None where they are one network, or not finite."""
    teacher_disagreement: float | None = None
    """Share of some pool rows, as they are stored, to which teacher and student give different
    classes; None where they are one network, draw on no such rows, find points or are not finite.
    """
    teacher_queue: int | None = None
    """Snapshots in the teacher's queue; None where it has none."""


def diagnosed(
    spec: TrainingSpec,
    state: TrainState,
    class_rows: Sequence[int],
    num_steps: int,
    shown: Iterable[torch.Tensor],
) -> Diagnostics:
    """The diagnostics of a student that tells classes apart.

    ``class_rows`` are labelled rows [C]; teacher and student are compared on ``shown``, blocks of
    images float32 [B, C, H, W] or features, in the precision of the training.
    """
    moment = Moment(num_steps - 1, num_steps)
    everything = True  # meta labels: each row learns the label that it was given
    if (term := spec.objective.consistency) is not None:
        rule = moment.settings(term).selector
        everything = rule.accepts_all(Outlook.of_classes(class_rows, spec.batch.pool))
    return Diagnostics(
        in_step=state.running.tally.told(accepts_all=everything),
        term_weights=term_weights(spec, moment),
        teacher_distance=distance(state.teacher, state.student),
        teacher_disagreement=disagreement(state.teacher, state.student, shown, spec.precision),
        teacher_queue=queue_length(state.snapshots),
    )


def diagnosed_points(spec: LandmarkTraining, state: TrainState, num_steps: int) -> Diagnostics:
    """The diagnostics of a student that finds points."""
    last, both = Moment(num_steps - 1, num_steps), spec.two_sources
    bound = next((each.threshold for each in (spec.consistency, both) if each is not None), 0.0)
    known = {name: last.value(getattr(spec.objective, name)) for name in POINT_TERMS}
    weights = dict(known)
    if spec.consistency is not None:
        weights["consistency"] = last.value(spec.consistency.weight)
    if both is not None:
        weight, heat, structure = map(last.value, (both.weight, both.heat, both.structure))
        weights["points"] = weight
        weights |= {"calm_agreement": weight * heat, "calm_structure": weight * structure}
        weights |= {f"calm_{name}": value for name, value in known.items()}
    return Diagnostics(
        in_step=state.running.tally.told(accepts_all=last.value(bound) <= 0),
        term_weights=weights,
        teacher_distance=distance(state.teacher, state.student),
        teacher_queue=queue_length(state.snapshots),
    )


def term_weights(spec: TrainingSpec, moment: Moment) -> dict[str, float]:
    """Weight of each term at this moment, by name; a schedule over steps as a number."""
    goal = spec.objective
    terms = {name: getattr(goal, name) for name in TERMS}
    terms |= goal.representation.terms if goal.representation is not None else {}
    found = {n: moment.value(term.weight) for n, term in terms.items() if term is not None}
    if goal.consistency is not None and goal.consistency.fairness != 0:
        found["fairness"] = moment.value(goal.consistency.fairness)
    if spec.meta is not None:
        own = "consistency" if spec.self_meta is not None else "teacher_consistency"
        found[own] = moment.value(spec.meta.consistency)
    return found


@torch.no_grad()
def distance(teacher: nn.Module, student: nn.Module) -> float | None:
    """Norm of the difference of all parameters, as a share of the norm of the student's."""
    if teacher is student:
        return None
    pairs = zip(teacher.parameters(), student.parameters(), strict=True)
    parts = [torch.stack([(t - s).square().sum(), s.square().sum()]) for t, s in pairs]
    apart, whole = torch.stack(parts).double().sum(dim=0).tolist()
    found = math.sqrt(apart / whole) if whole > 0 else math.nan
    return found if math.isfinite(found) else None


@torch.no_grad()
def disagreement(
    teacher: nn.Module,
    student: nn.Module,
    shown: Iterable[torch.Tensor],
    precision: Precision = "float32",
) -> float | None:
    """Share of images, in blocks [B, ...], to which the two give different classes.

    Both are in evaluation mode after it. None where they are one network, which asks for no block,
    where there is no image, and where a logit is not a number.
    """
    if teacher is student:
        return None
    rows, apart = 0, 0
    for images in shown:
        with autocast(precision, images.device):
            first, second = teacher.eval()(images), student.eval()(images)
        if first.isnan().any() or second.isnan().any():
            return None
        rows += len(images)
        apart += int((first.argmax(dim=1) != second.argmax(dim=1)).sum())
    return apart / rows if rows else None


def queue_length(snapshots: Snapshots) -> int | None:
    """How many snapshots a queue holds; None if there is none."""
    return len(snapshots.kept) or None
