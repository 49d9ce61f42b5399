"""What a training tells of itself at its end."""

from dataclasses import replace

import torch

from tests.trainables.students import BATCH, SPECS, constant, data, network, train
from trainables.batches import TrainingSet
from trainables.diagnostics import diagnosed, disagreement, distance, term_weights
from trainables.objective import ConsistencyTerm, EntropyTerm, Objective
from trainables.partners import SelfMeta
from trainables.schedules import Linear, Moment
from trainables.selectors.fixed import Everything, Threshold
from trainables.student import TrainingSpec
from trainables.teachers import QueueMean

ROWS = (3, 2, 2, 2)
CPU = torch.device("cpu")
SHOWN = list(data().shown(8, 3, CPU))


def test_weights_are_those_of_the_moment():
    goal = Objective(
        consistency=ConsistencyTerm(weight=Linear(start=0, end=4, over="steps"), fairness=0.5),
        entropy=EntropyTerm(weight=0.25),
    )
    spec = TrainingSpec(batch=BATCH, objective=goal)
    half = term_weights(spec, Moment(5, 11))
    assert half == {
        "labelled": 1,
        "selected": 1,
        "consistency": 2,
        "entropy": 0.25,
        "fairness": 0.5,
    }
    meta = TrainingSpec(batch=BATCH, self_meta=SelfMeta(consistency=3.0))
    assert term_weights(meta, Moment(0, 2))["consistency"] == 3


def test_the_distance_is_a_share_of_the_students_norm():
    one, other = network(), network()
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(1.5)
    assert distance(one, one) is None
    assert distance(other, one) == torch.tensor(0.5)
    assert distance(network(), one) == 0
    assert distance(constant([float("nan"), 0.1, 0.1, 0.1]), one) is None


def test_teacher_and_student_disagree_on_a_share_of_the_rows_they_are_shown():
    one = network()
    first, second = constant([0.7, 0.1, 0.1, 0.1]), constant([0.1, 0.7, 0.1, 0.1])
    assert disagreement(one, one, SHOWN) is None
    assert disagreement(network(), one, SHOWN) == 0
    assert disagreement(first, second, SHOWN) == 1
    assert disagreement(first, second, ()) is None
    assert disagreement(constant([float("nan"), 0.1, 0.1, 0.1]), first, SHOWN) is None


def test_networks_disagree_as_they_evaluate_and_not_as_they_train():
    images = torch.cat(SHOWN)
    one, zeros = network("batch").train(), constant([0.7, 0.1, 0.1, 0.1])
    trains = (one(images).argmax(dim=1) != 0).double().mean()
    evaluates = (one.eval()(images).argmax(dim=1) != 0).double().mean()
    assert trains != evaluates
    assert disagreement(one.train(), zeros, SHOWN) == evaluates


def test_rows_shown_are_spread_over_the_pool_or_the_selection():
    rows = data()
    assert rows.pool is not None and rows.selected is not None
    assert [len(block) for block in rows.shown(19, 8, CPU)] == [8, 8, 3]
    assert torch.equal(torch.cat([*rows.shown(19, 8, CPU)]), rows.pool.images(range(19), CPU))
    (three,) = rows.shown(3, 8, CPU)
    assert torch.equal(three, rows.pool.images([0, 9, 18], CPU))
    (chosen,) = replace(rows, pool=None).shown(100, 100, CPU)
    assert torch.equal(chosen, rows.selected.images(range(len(rows.selected)), CPU))
    assert list(TrainingSet(rows.labelled).shown(100, 8, CPU)) == []


def test_a_queue_tells_how_many_snapshots_it_holds():
    rule = QueueMean(length=3, push_every=2)
    spec = TrainingSpec(batch=BATCH, teacher=rule)
    for steps, held in ((3, 2), (9, 3)):
        state, _ = train(spec, steps=steps)
        told = diagnosed(spec, state, ROWS, steps, SHOWN)
        assert told.teacher_queue == held
        assert told.teacher_distance > 0
        assert 0 <= told.teacher_disagreement <= 1
    state, _ = train(SPECS["sgd"])
    assert diagnosed(SPECS["sgd"], state, ROWS, 5, SHOWN).teacher_queue is None


def test_whether_steps_mean_to_accept_everything_is_asked_of_their_last_moment():
    falls = Threshold(threshold=Linear(start=0.9, end=0.1, over="steps"))
    for selector, wanted in ((Everything(), True), (falls, True), (Threshold(), False)):
        goal = Objective(consistency=ConsistencyTerm(selector=selector))
        spec = TrainingSpec(batch=BATCH, objective=goal)
        state, _ = train(spec, steps=3)
        assert diagnosed(spec, state, ROWS, 3, SHOWN).in_step.accepts_all is wanted
