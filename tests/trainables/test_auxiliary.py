"""Auxiliary terms: golden values, and what they are where there is nothing to learn from."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.selectors.pools import P, of_probs
from tests.trainables.test_neighbours import at_cosines
from trainables.auxiliary import (
    Alignment,
    Contrast,
    Graph,
    Known,
    Shrunk,
    Similarity,
    Trained,
    Turns,
    label_graph,
)
from trainables.beliefs import Beliefs
from trainables.heads import Outputs
from trainables.loader import turned
from trainables.neighbours import Bank
from trainables.worker import Worker

EAST = [1.0, 0.0]
EMPTY = Bank.of_probs(np.zeros((0, 2)), np.zeros((0, 2)))


def outputs(num: int, **heads: Tensor) -> Outputs:
    return Outputs(torch.zeros(num, 2), heads)


def known(
    seen: Beliefs,
    *,
    weak: list[list[float]] | None = None,
    bank: Bank | None = None,
    keys: Tensor | None = None,
    confidences: tuple[float, ...] = (),
    refined: Beliefs | None = None,
) -> Known:
    embedding = np.array(weak if weak is not None else [EAST] * len(seen), np.float32)
    last = np.array(confidences, np.float32)
    return Known(seen, refined or seen, embedding, bank, keys, last, len(seen))


def trained(
    strong: Tensor,
    second: Tensor | None = None,
    head: str = "embedding",
    quarters: list[int] | None = None,
) -> Trained:
    return Trained(
        outputs(len(strong), **{head: strong}),
        outputs(
            0 if second is None else len(second), **{head: strong if second is None else second}
        ),
        outputs(len(strong), **{head: strong}),
        torch.tensor(quarters or [0] * len(strong)),
    )


def value(term, before: Known, now: Trained) -> float:
    return float(term.value(before, now, Worker()))


def test_the_target_of_similarity_is_the_golden_unfolded_likeness():
    cosines = 0.5 + 0.1 * np.log([0.5, 0.3, 0.2])
    bank = Bank.of_labels(at_cosines(*cosines), np.array([0, 1, 1]), 2)
    before = known(of_probs([(0.7, 0.3)]), bank=bank)
    same = value(Similarity(), before, trained(torch.tensor([EAST])))
    expected = -np.dot([0.7, 0.18, 0.12], np.log([0.5, 0.3, 0.2]))
    assert same == pytest.approx(expected, abs=1e-4)


def test_a_graph_of_labels_has_ones_on_its_diagonal_and_no_weak_edge():
    probs = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    assert label_graph(probs, 0.8)[0].tolist() == pytest.approx([1 / 1.82, 0.82 / 1.82, 0])
    assert label_graph(probs, 0.8)[2].tolist() == [0, 0, 1]
    whole = label_graph(probs, 0.0)
    assert whole[0].tolist() == pytest.approx([1 / 2.08, 0.82 / 2.08, 0.26 / 2.08])
    assert whole.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert torch.equal(label_graph(torch.full((2, 2), torch.nan), 0.5), torch.eye(2))


def test_a_graph_of_rows_without_edges_is_plain_contrast():
    seen = of_probs([(1.0, 0.0), (0.0, 1.0)])
    views = torch.tensor([EAST, [0.0, 1.0]])
    found = value(Graph(temperature=0.2), known(seen), trained(views, views))
    assert found == pytest.approx(math.log(1 + math.exp(-5)), rel=1e-5)


def test_a_graph_reads_refined_labels():
    apart, together = of_probs([(1.0, 0.0), (0.0, 1.0)]), of_probs([(1.0, 0.0), (1.0, 0.0)])
    views = torch.tensor([EAST, [0.0, 1.0]])
    plain = value(Graph(), known(apart), trained(views, views))
    drawn = value(Graph(), known(apart, refined=together), trained(views, views))
    assert drawn == pytest.approx(plain + 0.5 / 0.2, rel=1e-4)


def test_contrast_spares_rows_of_the_same_label():
    bank = Bank.of_probs(np.array([EAST, [0.0, 1.0]]), np.array([[0.8, 0.2], [0.1, 0.9]]))
    keys, term = torch.tensor([EAST]), Contrast(temperature=0.5)
    first = known(of_probs([(0.7, 0.3)]), bank=bank, keys=keys)
    second = known(of_probs([(0.3, 0.7)]), bank=bank, keys=keys)
    now = trained(torch.tensor([EAST]))
    assert value(term, first, now) == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)
    assert value(term, second, now) == pytest.approx(math.log(2), rel=1e-5)


def test_alignment_is_least_where_the_strong_view_is_as_alike_as_the_weak_one():
    bank = Bank.of_labels(np.array([EAST, [0.0, 1.0]]), np.array([0, 1]), 2)
    before, term = known(of_probs([(0.7, 0.3)]), weak=[[1.0, 1.0]], bank=bank), Alignment()
    assert value(term, before, trained(torch.tensor([[2.0, 2.0]]))) == pytest.approx(math.log(2))
    assert value(term, before, trained(torch.tensor([EAST]))) > 9


def test_classes_without_a_labelled_row_are_aligned_to_by_none():
    bank = Bank.of_labels(np.array([EAST, [0.0, 1.0]]), np.array([0, 2]), 4)
    before = known(of_probs([(0.7, 0.1, 0.1, 0.1)]), weak=[[1.0, 1.0]], bank=bank)
    found = value(Alignment(), before, trained(torch.tensor([[2.0, 2.0]])))
    assert found == pytest.approx(math.log(2))


def test_only_the_golden_row_that_becomes_sure_teaches_the_second_classifier():
    """Row 0 keeps classes 0 and 2; it counts 0.9 of its confidence, and half of all are sure."""
    logits = torch.tensor([[1.0, 50.0, 0.0]]).repeat(10, 1)
    before = known(of_probs(P), confidences=(0.5, 0.96))
    now = trained(logits, head="second_classifier")
    expected = 0.9 * 0.5 * math.log(1 + math.exp(-1)) / 10
    assert value(Shrunk(threshold=0.95), before, now) == pytest.approx(expected, rel=1e-5)
    unknown = known(of_probs(P))
    assert value(Shrunk(threshold=0.95), unknown, now) == 0


def test_of_two_classes_none_can_be_dropped():
    before = known(of_probs([(0.7, 0.3)]), confidences=(0.99,))
    now = trained(torch.tensor([[1.0, 0.0]]), head="second_classifier")
    assert value(Shrunk(), before, now) == 0


def test_turns_cost_the_surprise_of_the_true_turn():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]))
    before = known(of_probs([(0.7, 0.3), (0.7, 0.3)]))
    found = value(Turns(), before, trained(logits, head="turns", quarters=[3, 0]))
    assert found == pytest.approx(-(math.log(0.4) + math.log(0.7)) / 2, rel=1e-5)


def test_images_are_turned_left_by_quarters():
    image = torch.arange(4.0).view(1, 1, 2, 2)
    found = turned(image.repeat(4, 1, 1, 1), torch.arange(4)).flatten(1)
    assert found.tolist() == [[0, 1, 2, 3], [1, 3, 0, 2], [3, 2, 1, 0], [2, 0, 3, 1]]
    assert turned(image[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 1, 2, 2)


NEAR = (Similarity(), Contrast(), Alignment(), Graph())
near_terms = pytest.mark.parametrize("term", NEAR, ids=lambda term: type(term).__name__)


@near_terms
def test_a_memory_of_no_rows_teaches_nothing_but_keeps_its_head_in_the_graph(term):
    strong = torch.tensor([EAST]).requires_grad_()
    before = known(of_probs([(0.7, 0.3)]), bank=EMPTY, keys=torch.tensor([EAST]))
    found = term.value(before, trained(strong, strong), Worker())
    assert float(found.detach()) == 0
    found.backward()
    assert (strong.grad == 0).all()


@near_terms
def test_rows_of_nan_are_held_against_nothing(term):
    seen = of_probs([(0.7, 0.3)])
    seen.log_probs[0] = np.nan
    bank = Bank.of_labels(np.array([EAST, [0.0, 1.0]]), np.array([0, 1]), 2)
    before = known(seen, weak=[[np.nan, 0.0]], bank=bank, keys=torch.tensor([EAST]))
    now = trained(torch.tensor([EAST]), torch.tensor([EAST]))
    assert math.isfinite(value(term, before, now))
