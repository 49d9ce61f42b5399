import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from trainables.models import SmallCnn, build
from trainables.teachers import (
    ExponentialAverage,
    StudentIsTeacher,
    TeacherRule,
    follow,
    start_teacher,
)

RULES = [StudentIsTeacher(), ExponentialAverage(), ExponentialAverage(decay=0)]
every_rule = pytest.mark.parametrize("rule", RULES)


def student() -> nn.Module:
    return build(SmallCnn(width=8), 1, 28, 10)


def moved(model: nn.Module, by: float) -> nn.Module:
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(by)
    return model


def averages(rule: ExponentialAverage, values: list[float]) -> list[float]:
    """The teacher's only weight after the student took each of the values."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 100.0)
    teacher, found = start_teacher(rule, layer), []
    for step, value in enumerate(values):
        nn.init.constant_(layer.weight, value)
        follow(rule, teacher, layer, step)
        found.append(teacher.weight.item())
    return found


def test_the_first_steps_average_all_students_so_far():
    # decays 0, .5, .666667, .75, .8: the running mean, which forgets where the teacher started
    found = averages(ExponentialAverage(decay=0.99), [1, 2, 4, 8, 16])
    assert found == pytest.approx([1, 1.5, 7 / 3, 3.75, 6.2], rel=1e-6)


def test_later_steps_keep_the_decay():
    found = averages(ExponentialAverage(decay=0.5), [1, 2, 4, 8, 16])
    assert found == pytest.approx([1, 1.5, 2.75, 5.375, 10.6875], rel=1e-6)


def test_no_decay_copies_the_student():
    assert averages(ExponentialAverage(decay=0), [1, 2, 4]) == [1, 2, 4]


def test_a_student_that_stands_still_is_reached_at_once_and_kept():
    assert averages(ExponentialAverage(decay=0.9), [3.0] * 30) == pytest.approx([3.0] * 30)


@every_rule
def test_the_teacher_starts_with_the_students_weights(rule):
    model = student()
    teacher = start_teacher(rule, model)
    for name, value in model.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], value)


@every_rule
def test_following_leaves_the_student_as_it_was(rule):
    model = student()
    teacher = start_teacher(rule, model)
    moved(model, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    follow(rule, teacher, model, 0)
    follow(rule, teacher, model, 7)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_student_rule_keeps_one_network():
    model = student()
    assert start_teacher(StudentIsTeacher(), model) is model
    assert all(p.requires_grad for p in model.parameters())


def test_an_averaged_teacher_is_a_frozen_copy_in_evaluation_mode():
    model = student().train()
    teacher = start_teacher(ExponentialAverage(), model)
    assert not teacher.training
    assert model.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in model.parameters())
    moved(model, 1)
    assert not torch.equal(teacher.classifier.weight, model.classifier.weight)


def test_batch_statistics_are_averaged_and_counters_copied():
    rule, model = ExponentialAverage(decay=0.5), student()
    teacher = start_teacher(rule, model)
    moved(model, 4)
    follow(rule, teacher, model, 9)
    mean, counter = "features.1.running_mean", "features.1.num_batches_tracked"
    assert teacher.state_dict()[mean].unique().tolist() == [2.0]
    assert teacher.state_dict()[counter].item() == 4


def test_a_rule_is_read_by_its_kind():
    reader = TypeAdapter(TeacherRule)
    for rule in RULES:
        assert reader.validate_python(rule.plain()) == rule
    with pytest.raises(ValidationError, match="'student', 'ema'"):
        reader.validate_python({"kind": "emma"})
    with pytest.raises(ValidationError, match="less than 1"):
        reader.validate_python({"kind": "ema", "decay": 1})
