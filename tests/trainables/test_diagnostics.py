"""What a training tells of itself at its end."""

import torch

from tests.trainables.students import BATCH, SPECS, constant, network, train
from trainables.diagnostics import diagnosed, distance, term_weights
from trainables.objective import ConsistencyTerm, EntropyTerm, Objective
from trainables.partners import SelfMeta
from trainables.schedules import Linear, Moment
from trainables.selectors.fixed import Everything, Threshold
from trainables.student import TrainingSpec
from trainables.teachers import QueueMean

ROWS = (3, 2, 2, 2)


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


def test_a_queue_tells_how_many_snapshots_it_holds():
    rule = QueueMean(length=3, push_every=2)
    spec = TrainingSpec(batch=BATCH, teacher=rule)
    for steps, held in ((3, 2), (9, 3)):
        state, _ = train(spec, steps=steps)
        told = diagnosed(spec, state, ROWS, steps)
        assert told.teacher_queue == held
        assert told.teacher_distance > 0
    state, _ = train(SPECS["sgd"])
    assert diagnosed(SPECS["sgd"], state, ROWS, 5).teacher_queue is None


def test_whether_steps_mean_to_accept_everything_is_asked_of_their_last_moment():
    falls = Threshold(threshold=Linear(start=0.9, end=0.1, over="steps"))
    for selector, wanted in ((Everything(), True), (falls, True), (Threshold(), False)):
        goal = Objective(consistency=ConsistencyTerm(selector=selector))
        spec = TrainingSpec(batch=BATCH, objective=goal)
        state, _ = train(spec, steps=3)
        assert diagnosed(spec, state, ROWS, 3).in_step.accepts_all is wanted
