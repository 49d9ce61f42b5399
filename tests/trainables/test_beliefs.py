from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from trainables.beliefs import DOUBT, Beliefs, Doubt
from trainables.schemas import SchemaError, conform, predictions


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))).astype(np.float32)


def some(num: int = 9, classes: int = 4) -> Beliefs:
    logits = np.random.default_rng(0).normal(size=(num, classes))
    return Beliefs.of_log_probs([f"row-{i}" for i in range(num)], log_softmax(logits))


def same(first: Beliefs, second: Beliefs) -> bool:
    return first.example_ids == second.example_ids and all(
        np.array_equal(getattr(first, name), getattr(second, name))
        and getattr(first, name).dtype == getattr(second, name).dtype
        for name in ("labels", "confidence", "log_probs")
    )


def test_label_and_confidence_are_those_of_the_most_probable_class():
    found = Beliefs.of_log_probs(["a", "b"], np.log(np.float32([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]])))
    assert found.labels.tolist() == [1, 0]
    assert found.confidence.tolist() == pytest.approx([0.7, 0.5])
    assert found.confidence.dtype == np.float32
    assert (len(found), found.num_classes) == (2, 3)


def test_the_lowest_class_wins_a_tie():
    assert Beliefs.of_log_probs(["a"], np.log(np.float32([[0.2, 0.4, 0.4]]))).labels.tolist() == [1]


def test_a_rounding_above_one_is_no_confidence_above_one():
    assert Beliefs.of_log_probs(["a"], np.float32([[1e-7, -20]])).confidence.tolist() == [1.0]


def test_a_table_gives_back_the_same_beliefs():
    table = conform(some().to_table(predictions(4)), predictions(4), "here")
    assert same(Beliefs.of_table(table), some())


@pytest.mark.parametrize("rows", [(0, 9), (3, 4), (8, 1), (0, 0)])
def test_a_slice_of_a_table_gives_its_own_rows(rows):
    start, length = rows
    found = Beliefs.of_table(some().to_table(predictions(4)).slice(start, length))
    whole, cut = some(), slice(start, start + length)
    expected = Beliefs(
        whole.example_ids[cut], whole.labels[cut], whole.confidence[cut], whole.log_probs[cut]
    )
    assert same(found, expected)


def test_a_table_of_several_chunks_keeps_its_order():
    table = some().to_table(predictions(4))
    found = Beliefs.of_table(pa.concat_tables([table.slice(0, 5), table.slice(5)]))
    assert same(found, some())


def test_no_rows_keep_their_number_of_classes():
    empty = Beliefs.of_table(predictions(4).empty_table())
    assert (len(empty), empty.num_classes) == (0, 4)
    assert empty.to_table(predictions(4)).num_rows == 0


def test_rows_keep_what_their_sources_disagree_about_wherever_they_are_taken():
    doubt = Doubt(*np.random.default_rng(1).random((3, 9)).astype(np.float32))
    found = replace(some(), doubt=doubt).taken(np.array([7, 2]))
    assert found.example_ids == ["row-7", "row-2"]
    for name in DOUBT:
        assert (getattr(found.doubt, name) == getattr(doubt, name)[[7, 2]]).all()


def test_rows_that_hold_what_is_no_log_probability_are_not_usable():
    log_probs = np.float32([[-1, -2], [np.nan, -1], [-np.inf, 0], [-1, np.nan], [np.inf, 0]])
    found = Beliefs.of_log_probs(list("abcde"), log_probs)
    assert found.usable().tolist() == [True, False, True, False, False]


def test_a_row_of_nan_cannot_enter_a_prediction_table():
    table = Beliefs.of_log_probs(["a"], np.float32([[np.nan, -1]])).to_table(predictions(2))
    with pytest.raises(SchemaError, match="confidence holds values that are not finite"):
        conform(table, predictions(2), "here")
