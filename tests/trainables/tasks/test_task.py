"""The contract of a task: laws that hold for every kind of label, and numbers by hand."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from trainables import schemas
from trainables.beliefs import Beliefs
from trainables.landmarks.elements import selected_rows
from trainables.landmarks.found import FoundPoints
from trainables.landmarks.network import LandmarkNetworkSpec, Pyramid, TimmBackbone
from trainables.landmarks.tables import point_predictions, point_selection, prediction_table
from trainables.models import TimmModel
from trainables.own_networks import SmallCnn
from trainables.tasks.kinds import Classes, Points
from trainables.tasks.task import ANY_STUDENT, Task, task_of, without_weights

IDS = [f"row-{i}" for i in range(6)]
NAN = float("nan")
CLASSES = Classes(num_classes=3)
POINTS = Points(num_points=2, mirrored=(1, 0), normaliser=10.0)
LABELS = np.array([0, 1, 2, 0, 1, 1])
PLACES = np.arange(24, dtype=np.float32).reshape(6, 2, 2)


@dataclass(frozen=True)
class Case:
    """A task with rows whose truth is known."""

    task: Task
    truth: pa.Table
    perfect: pa.Table
    """Predictions that are the truth."""
    poor: pa.Table
    """Predictions that are wrong everywhere."""
    chosen: pa.Table
    """All rows of the perfect predictions, selected."""
    elements: int


def labelled(labels: np.ndarray) -> pa.Table:
    return pa.table({"example_id": IDS, "label": pa.array(labels, pa.int32())})


def believed(labels: np.ndarray, confidence: float = 0.8) -> pa.Table:
    """Predictions of these classes, each with the same confidence."""
    probs = np.full((len(labels), 3), (1 - confidence) / 2, np.float32)
    probs[np.arange(len(labels)), labels] = confidence
    return Beliefs.of_log_probs(IDS[: len(labels)], np.log(probs)).to_table(schemas.predictions(3))


def taken(labels: np.ndarray, weights: np.ndarray | None = None) -> pa.Table:
    ones = np.ones(len(labels), np.float32) if weights is None else weights.astype(np.float32)
    return pa.table(
        {
            "example_id": IDS[: len(labels)],
            "label": pa.array(labels, pa.int32()),
            "weight": ones,
        }
    )


def found(places: np.ndarray, peak: float | np.ndarray = 0.8) -> pa.Table:
    """Predictions of these points [N, 2, 2]."""
    places = places.astype(np.float32)
    one = np.broadcast_to(np.asarray(peak, np.float32), places.shape[:2])
    told = FoundPoints(places, places, one, one, one, one)
    return prediction_table(IDS[: len(places)], told, 2)


def marked(places: np.ndarray) -> pa.Table:
    """The truth of these points."""
    told = found(places)
    return told.select(["example_id", "label"])


def kept(places: np.ndarray, weights: np.ndarray) -> pa.Table:
    names = IDS[: len(places)]
    return selected_rows(names, places.astype(np.float32), weights, point_selection(2))


CASES = {
    "classes": Case(
        task_of(CLASSES),
        labelled(LABELS),
        believed(LABELS),
        believed((LABELS + 1) % 3),
        taken(LABELS),
        6,
    ),
    "points": Case(
        task_of(POINTS),
        marked(PLACES),
        found(PLACES),
        found(PLACES + 30),
        kept(PLACES, np.ones((6, 2), np.float32)),
        12,
    ),
}
every_task = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


# ---- laws of every task


@every_task
def test_the_score_is_a_share_that_is_1_where_all_is_right_and_0_where_nothing_is(case):
    assert case.task.measure(case.truth, case.perfect)["score"] == 1
    assert case.task.measure(case.truth, case.poor)["score"] == 0


@every_task
def test_the_score_falls_as_more_rows_are_wrong(case):
    scores = []
    for wrong in range(7):
        told = pa.concat_tables([case.poor[:wrong], case.perfect[wrong:]])
        scores.append(case.task.measure(case.truth, told)["score"])
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


@every_task
def test_all_figures_are_numbers_and_rows_are_counted(case):
    figures = case.task.measure(case.truth, case.poor)
    assert figures["rows"] == 6
    assert np.isfinite(list(figures.values())).all()


@every_task
def test_predicted_elements_are_counted_by_name(case):
    counts = case.task.predicted(case.perfect)
    assert len(counts) == case.task.num_names
    assert counts.sum() == case.elements


@every_task
def test_a_selection_of_the_truth_is_right_and_as_large_as_what_was_predicted(case):
    accepted = case.task.accepted(case.chosen, case.perfect)
    judged = case.task.judged(case.chosen, case.truth)
    assert len(accepted.names) == len(judged.names) == case.elements
    assert judged.right.all()
    counts = np.bincount(accepted.names, minlength=case.task.num_names)
    assert counts.tolist() == case.task.predicted(case.perfect).tolist()
    assert accepted.confidence == pytest.approx(np.full(case.elements, 0.8))
    assert accepted.weights == pytest.approx(np.ones(case.elements))


@every_task
def test_an_empty_selection_holds_nothing(case):
    assert not len(case.task.accepted(case.chosen[:0], case.perfect).names)
    judged = case.task.judged(case.chosen[:0], case.truth)
    assert len(judged.names) == len(judged.right) == 0


@every_task
def test_rows_whose_truth_is_not_known_are_not_judged(case):
    judged = case.task.judged(case.chosen, case.truth[:2])
    assert len(judged.names) == case.elements // 3
    assert not len(case.task.judged(case.chosen, case.truth[:0]).names)


@every_task
def test_nothing_changes_between_a_table_and_itself_and_everything_to_a_wrong_one(case):
    same = case.task.changed(case.perfect, case.perfect)
    assert (same.compared, same.changed) == (case.elements, 0)
    other = case.task.changed(case.perfect, case.poor)
    assert (other.compared, other.changed) == (case.elements, case.elements)


@every_task
def test_rows_that_one_table_lacks_are_not_compared_whatever_their_order(case):
    shuffled = case.perfect.take([5, 2, 0])
    found_ = case.task.changed(case.perfect, shuffled)
    assert (found_.compared, found_.changed) == (case.elements // 2, 0)
    assert case.task.changed(case.perfect, case.perfect[:0]).compared == 0


@every_task
def test_counts_over_parts_of_a_table_add_up(case):
    whole = case.task.predicted(case.perfect)
    parts = [case.task.predicted(case.perfect[at : at + 2]) for at in (0, 2, 4)]
    assert np.sum(parts, axis=0).tolist() == whole.tolist()


@every_task
def test_a_kept_row_that_the_teacher_tells_nothing_of_counts_without_a_confidence(case):
    whole = case.task.accepted(case.chosen, case.perfect)
    part = case.task.accepted(case.chosen, case.perfect.take([5, 0, 2]))
    assert part.names.tolist() == whole.names.tolist()
    assert part.weights.tolist() == whole.weights.tolist()
    known = ~np.isnan(part.confidence)
    assert part.confidence[known].tolist() == whole.confidence[known].tolist()
    assert 0 < known.sum() < len(known)
    assert np.isnan(case.task.accepted(case.chosen, case.perfect[:0]).confidence).all()


# ---- by hand


def test_accepted_and_judged_rows_of_classes_are_as_by_hand():
    task, told = task_of(CLASSES), believed(np.array([0, 1, 2, 0]), 0.6)
    chosen = taken(np.array([0, 1, 2]), np.array([1.0, 0.5, 0.25]))
    accepted = task.accepted(chosen, told)
    assert accepted.names.tolist() == [0, 1, 2]
    assert accepted.weights.tolist() == [1.0, 0.5, 0.25]
    judged = task.judged(chosen, labelled(np.array([0, 2, 2, 0, 0, 0])))
    assert judged.names.tolist() == [0, 1, 2]
    assert judged.right.tolist() == [True, False, True]


def test_points_count_one_by_one_and_those_that_were_not_accepted_not_at_all():
    task, places = task_of(POINTS), PLACES[:3].copy()
    weights = np.array([[1, 0.5], [0, 1], [1, 0]], np.float32)
    places[weights == 0] = NAN
    places[0, 1] += [0.9, 0.0]  # within a tenth of 10 pixels
    places[1, 1] += [0.0, 1.1]  # beyond it
    accepted = task.accepted(kept(places, weights), found(PLACES[:3], [[0.9, 0.8]]))
    assert accepted.names.tolist() == [0, 1, 1, 0]
    assert accepted.weights.tolist() == [1, 0.5, 1, 1]
    assert accepted.confidence == pytest.approx([0.9, 0.8, 0.8, 0.9])
    judged = task.judged(kept(places, weights), marked(PLACES))
    assert judged.names.tolist() == [0, 1, 1, 0]
    assert judged.right.tolist() == [True, True, False, True]


def test_a_row_is_told_in_words_as_by_hand():
    task, names = task_of(CLASSES), ("cat", "dog", "eel")
    told = believed(np.array([1, 1, 1, 0]), 0.8)
    chosen = taken(np.array([2, 1]), np.array([0.5, 1]))  # the first row, called another class
    assert task.said("row-0", told, chosen, names) == [
        "dog 0.800, then cat 0.100",
        "accepted as eel, weight 0.500",
    ]
    last = "left out; the least sure accepted 'dog' of its fragment has 0.800"
    assert task.said("row-2", told, chosen, names)[1] == last
    nobody = "left out; no 'dog' of its fragment was accepted"
    assert task.said("row-2", told, chosen[:1], names)[1] == nobody
    nobody = "left out; no 'cat' of its fragment was accepted"
    assert task.said("row-3", told, chosen, names)[1] == nobody
    assert task.truth_said(labelled(LABELS)[:1], names) == "cat"
    assert task.truth_said(labelled(LABELS)[:0], names) == "none"


def test_each_point_of_a_row_is_told_in_words_as_by_hand():
    task, names = task_of(POINTS), ("nose", "tail")
    places = PLACES[:2].copy()
    told = found(places, [[0.9, 0.3], [0.8, 0.6]])
    chosen = kept(places, np.array([[0.5, 0], [0, 1]], np.float32))
    left = "left out; the least sure accepted 'tail' of its fragment has 0.600"
    assert task.said("row-0", told, chosen, names) == [
        "nose at (0.0, 1.0), 0.900: accepted, weight 0.500",
        f"tail at (2.0, 3.0), 0.300: {left}",
    ]
    places[0, 1] = NAN
    assert (
        task.truth_said(marked(places)[:1], names) == "nose at (0.0, 1.0), tail at an unknown place"
    )
    assert task.truth_said(marked(places)[:0], names) == "none"


def test_a_point_whose_truth_is_unknown_is_not_judged():
    truth = PLACES.copy()
    truth[:, 0] = NAN
    judged = task_of(POINTS).judged(CASES["points"].chosen, marked(truth))
    assert judged.names.tolist() == [1] * 6


def test_points_that_moved_by_more_than_a_tenth_of_the_normaliser_have_changed():
    moved = PLACES.copy()
    moved[0, 0] += [0.9, 0]
    moved[1, 0] += [1.1, 0]
    moved[2, 1] = NAN  # told by one table alone
    changed = task_of(POINTS).changed(found(moved), found(PLACES))
    assert (changed.compared, changed.changed) == (11, 1)


def test_a_point_that_was_not_found_is_not_predicted():
    lost = PLACES.copy()
    lost[:4, 1] = NAN
    assert task_of(POINTS).predicted(found(lost)).tolist() == [6, 2]


# ---- students


def test_a_student_of_the_other_task_is_refused():
    with pytest.raises(ValueError, match="student is a landmark network, but the rows have cl"):
        task_of(CLASSES).network(LandmarkNetworkSpec(), 1, 32)
    with pytest.raises(ValueError, match="student must be a landmark_network: the rows have po"):
        task_of(POINTS).network(SmallCnn(), 1, 32)


@pytest.mark.parametrize(
    "student",
    [
        SmallCnn(width=8),
        LandmarkNetworkSpec(backbone=Pyramid(width=8)),
        LandmarkNetworkSpec(backbone=TimmBackbone(name="resnet18")),
    ],
    ids=["small_cnn", "pyramid", "timm"],
)
def test_a_stored_student_is_read_back_as_what_it_was(student):
    assert ANY_STUDENT.validate_python(student.plain()) == student


@pytest.mark.parametrize(
    "student",
    [
        TimmModel(name="resnet18", pretrained=True),
        LandmarkNetworkSpec(backbone=TimmBackbone(name="resnet18", pretrained=True)),
        LandmarkNetworkSpec(checkpoint="somewhere.safetensors"),
    ],
    ids=["timm", "timm backbone", "checkpoint"],
)
def test_a_student_without_weights_of_its_own_asks_for_none(student):
    plain = without_weights(student).plain()
    assert plain["checkpoint"] is None
    assert not plain.get("pretrained", False)
    assert not plain.get("backbone", {}).get("pretrained", False)


def test_a_student_without_weights_of_its_own_still_normalises_as_its_teacher_does():
    student = TimmModel(name="resnet18", checkpoint="somewhere.safetensors", new_classifier=True)
    plain = without_weights(student)
    assert not plain.new_classifier
    assert plain.normalised


def test_the_columns_of_a_prediction_table_are_those_of_its_schema():
    assert found(PLACES).schema.equals(point_predictions(2), check_metadata=True)
