import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from trainables.models import build
from trainables.own_networks import SmallCnn
from trainables.teachers import (
    ExponentialAverage,
    QueueMean,
    Snapshots,
    StudentIsTeacher,
    TeacherRule,
    follow,
    start_teacher,
)

RULES = [StudentIsTeacher(), ExponentialAverage(), ExponentialAverage(decay=0), QueueMean()]
every_rule = pytest.mark.parametrize("rule", RULES)


def student() -> nn.Module:
    return build(SmallCnn(width=8), 1, 28, 10)


def moved(model: nn.Module, by: float) -> nn.Module:
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(by)
    return model


def averages(
    rule: ExponentialAverage | QueueMean,
    values: list[float],
    start: float = 100.0,
    first_step: int = 0,
) -> list[float]:
    """The teacher's only weight after the student took each of the values."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, start)
    teacher, found, snapshots = start_teacher(rule, layer), [], Snapshots()
    for step, value in enumerate(values, first_step):
        nn.init.constant_(layer.weight, value)
        follow(rule, teacher, layer, step, snapshots)
        found.append(teacher.weight.item())
    return found


def test_the_first_steps_average_all_students_so_far():
    # decays 0, .5, .666667, .75, .8: the running mean, which forgets where the teacher started
    found = averages(ExponentialAverage(decay=0.99), [1, 2, 4, 8, 16])
    assert found == pytest.approx([1, 1.5, 7 / 3, 3.75, 6.2], rel=1e-6)


def test_later_steps_keep_the_decay():
    found = averages(ExponentialAverage(decay=0.5), [1, 2, 4, 8, 16])
    assert found == pytest.approx([1, 1.5, 2.75, 5.375, 10.6875], rel=1e-6)


def test_an_average_past_its_first_steps_has_its_golden_values():
    found = averages(ExponentialAverage(decay=0.9), [1, 2, 4, 8, 16], start=1, first_step=9)
    assert found == pytest.approx([1, 1.1, 1.39, 2.051, 3.4459], rel=1e-6)


def test_a_decay_next_to_one_stands_still_behind_its_first_steps():
    """The decay is below 1 and the first steps lower it: the first student is taken over."""
    still = ExponentialAverage(decay=1 - 1e-9)
    assert averages(still, [1, 2, 4, 8, 16]) == pytest.approx([1, 1.5, 7 / 3, 3.75, 6.2])
    late = averages(still, [5.0] * 1000, start=3, first_step=10**10)
    assert late == pytest.approx([3.0] * 1000, abs=2e-6)


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
    snapshots = Snapshots()
    follow(rule, teacher, model, 0, snapshots)
    follow(rule, teacher, model, 7, snapshots)
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
    with pytest.raises(ValidationError, match="'student', 'ema', 'queue'"):
        reader.validate_python({"kind": "emma"})
    with pytest.raises(ValidationError, match="less than 1"):
        reader.validate_python({"kind": "ema", "decay": 1})


def test_a_queue_is_the_mean_of_its_last_snapshots():
    found = averages(QueueMean(length=3, push_every=1), [1, 2, 4, 8, 16])
    assert found == pytest.approx([1, 1.5, 7 / 3, 14 / 3, 28 / 3], rel=1e-6)


def test_a_queue_of_one_copies_the_student():
    assert averages(QueueMean(length=1, push_every=1), [1, 2, 4]) == [1, 2, 4]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_a_queue_of_one_that_goes_part_of_the_way_is_an_exponential_average(decay):
    queue = QueueMean(length=1, push_every=1, share=1 - decay)
    plain = ExponentialAverage(decay=decay)
    late = {"start": 3.0, "first_step": 100}  # behind the first steps, which lower the decay
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert averages(queue, values, **late) == pytest.approx(averages(plain, values, **late))


def test_a_teacher_goes_its_share_of_the_way_to_the_mean_of_the_queue():
    found = averages(QueueMean(length=2, push_every=1, share=0.5), [2, 4, 8], start=0)
    assert found == pytest.approx([1, 2, 4])


def test_a_queue_takes_a_snapshot_every_so_many_steps_and_stands_still_in_between():
    found = averages(QueueMean(length=2, push_every=2), [1, 2, 4, 8, 16])
    assert found == pytest.approx([1, 1, 2.5, 2.5, 10])


def test_the_running_sum_of_a_queue_is_what_adding_up_anew_gives():
    stream, snapshots = torch.Generator().manual_seed(0), Snapshots()
    for _ in range(1000):
        weights = {"a": torch.randn(5, generator=stream) * 1000, "n": torch.tensor(3)}
        mean = snapshots.push(weights, 4)
    anew = torch.stack([each["a"] for each in snapshots.kept]).double().mean(0)
    assert torch.allclose(mean["a"], anew, rtol=1e-12, atol=1e-10)
    assert mean.keys() == {"a"}, "counters are not averaged"


def test_a_queue_averages_batch_statistics_and_copies_counters():
    rule, model, snapshots = QueueMean(length=2, push_every=1), student(), Snapshots()
    teacher = start_teacher(rule, model)
    for step in range(3):
        follow(rule, teacher, moved(model, 2), step, snapshots)
    mean, counter = "features.1.running_mean", "features.1.num_batches_tracked"
    assert teacher.state_dict()[mean].unique().tolist() == [5.0]
    assert teacher.state_dict()[counter].item() == 6


def test_a_queue_without_its_snapshots_is_refused():
    with pytest.raises(ValueError, match="a queue needs its snapshots"):
        follow(QueueMean(), student(), student(), 0)
