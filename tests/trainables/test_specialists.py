"""Sources that speak of some classes only: how they are restricted, and joined to the others."""

import numpy as np
import pytest
import torch

from trainables.combining import Specialists, combined
from trainables.models import build, logits_and_features
from trainables.own_networks import SmallCnn
from trainables.specialists import Restricted, class_parts

GENERAL = [[0.4, 0.2, 0.3, 0.1], [0.25, 0.25, 0.25, 0.25]]
FIRST = [[0.5, 0.5, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0]]
SECOND = [[0.0, 0.0, 0.9, 0.1], [0.0, 0.0, 0.2, 0.8]]


def logs(*probs: list[list[float]]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probs)).astype(np.float32)


def joined(*probs: list[list[float]], trust: float = 1.0) -> np.ndarray:
    return np.exp(Specialists(trust=trust).log_probs(logs(*probs)))


def test_specialists_share_out_what_the_others_give_their_classes():
    found = joined(GENERAL, FIRST, SECOND)
    assert found[0] == pytest.approx([0.3, 0.3, 0.36, 0.04], abs=1e-6)
    assert found[1] == pytest.approx([0.45, 0.05, 0.1, 0.4], abs=1e-6)


def test_trust_draws_from_the_others_to_the_specialists():
    assert joined(GENERAL, FIRST, SECOND, trust=0.0) == pytest.approx(np.array(GENERAL), abs=1e-6)
    half = joined(GENERAL, FIRST, SECOND, trust=0.5)
    assert half[0] == pytest.approx([0.35, 0.25, 0.33, 0.07], abs=1e-6)


def test_where_no_specialist_speaks_the_others_do():
    found = joined(GENERAL, FIRST)
    assert found[0] == pytest.approx([0.3, 0.3, 0.3, 0.1], abs=1e-6)


def test_without_a_source_of_all_classes_every_part_counts_by_its_size():
    found = joined(FIRST, SECOND)
    assert found[0] == pytest.approx([0.25, 0.25, 0.45, 0.05], abs=1e-6)


def test_overlapping_specialists_are_averaged_and_normalised():
    other = [[0.0, 0.6, 0.4, 0.0]] * 2
    found = joined(GENERAL, FIRST, other)
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert found[0, 1] == pytest.approx(0.3 / found_sum(), abs=1e-6)


def found_sum() -> float:
    """Of row 0 before it is normalised: .3 + (.3 + .5 * .6) / 2 + .5 * .4 + .1."""
    return 0.3 + 0.3 + 0.2 + 0.1


def test_rows_are_joined_on_their_own_and_rows_of_nan_stay_so():
    told = logs(GENERAL, FIRST, SECOND)
    told[2, 1] = np.nan
    found = Specialists().log_probs(told)
    assert np.isnan(found[1]).all()
    alone = Specialists().log_probs(told[:, :1])
    assert (found[:1] == alone).all()
    assert Specialists().log_probs(told[:, :0]).shape == (0, 4)


def test_silence_is_no_disagreement_of_its_own():
    certain = [[0.97, 0.01, 0.01, 0.01]]
    found = combined(Specialists(), ["a"], logs(certain, FIRST[1:], SECOND[1:]))
    assert found.doubt.agreement.tolist() == [1.0]
    assert np.isfinite([found.doubt.spread, found.doubt.margin]).all()


def test_classes_are_cut_into_neighbouring_parts():
    assert class_parts(10, 3) == [(0, 1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert class_parts(4, 2) == [(0, 1), (2, 3)]


def test_a_restricted_network_has_a_softmax_over_its_classes_and_its_features():
    torch.manual_seed(0)
    network = build(SmallCnn(width=8), 1, 8, 4).eval()
    images = torch.rand(3, 1, 8, 8)
    some = Restricted(network, (1, 3), 4).eval()
    logits, features = logits_and_features(some, images)
    plain, expected = logits_and_features(network, images)
    assert (features == expected).all()
    assert (logits[:, [1, 3]] == plain[:, [1, 3]]).all()
    assert (torch.softmax(logits, dim=1)[:, [0, 2]] == 0).all()
    assert (some(images) == logits).all()
