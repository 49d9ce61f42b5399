"""Ensembles: golden values, laws of rows and models, and rows that are certain or broken."""

import numpy as np
import pytest
from scipy import stats

from tests.trainables.selectors.pools import P
from trainables.ensembles import (
    agreement,
    confidence_vote,
    entropy_confidence,
    margin_test,
    mean_log_probs,
    spread_of_label,
)


def logs(probs):
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probs, np.float64))


TOP, SECOND = np.array([0.8, 0.7, 0.9, 0.6, 0.75]), np.array([0.1, 0.2, 0.05, 0.3, 0.15])
FIVE = logs(np.stack([TOP, SECOND, 1 - TOP - SECOND], axis=1)[:, None])
MANY = logs(np.random.default_rng(0).dirichlet([0.6] * 4, (5, 60)))
CERTAIN = logs([[[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 1]]])
EVERY = {
    "arithmetic": mean_log_probs,
    "geometric": lambda members: mean_log_probs(members, kind="geometric"),
    "spread": spread_of_label,
    "agreement": agreement,
    "margin": margin_test,
    "vote": confidence_vote,
    "certainty": lambda members: confidence_vote(members, normalised=False),
}
every_summary = pytest.mark.parametrize("summary", EVERY.values(), ids=EVERY)
BELIEFS = ["arithmetic", "geometric", "vote"]


def test_five_models_have_their_golden_margin():
    assert margin_test(FIVE) == pytest.approx([1.535377], abs=1e-6)
    assert stats.t.ppf(0.975, 7.825277) == pytest.approx(2.314997, abs=1e-6)
    assert margin_test(FIVE, level=0.5) == pytest.approx([3.850374], abs=1e-6)


def test_five_models_have_their_mean_and_their_spread():
    assert np.exp(mean_log_probs(FIVE))[0] == pytest.approx([0.75, 0.16, 0.09])
    assert spread_of_label(FIVE) == pytest.approx([TOP.std()])
    assert agreement(FIVE).tolist() == [1]


def test_the_confidence_by_entropy_has_its_golden_values():
    expected = [0.642837, 0.270153, 0.230745, 0.528327, 0.182655]
    expected += [0.000091, 0.442142, 0.136462, 0.270153, 0.821893]
    assert entropy_confidence(logs(P)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("third", [0.3, 0.1], ids=["a mean with rounding", "a mean without"])
def test_models_that_agree_exactly_are_held_against_nothing(third):
    members = np.repeat(logs([[[0.9 - third, third, 0.1]]]), 3, axis=0)
    expected = abs(0.9 - 2 * third) / np.sqrt(0.1 / 3)
    assert margin_test(members) == pytest.approx([expected])
    assert spread_of_label(members).tolist() == [0]


def test_the_margin_is_welchs_with_a_guard():
    probs = np.exp(MANY)
    for row, found in enumerate(margin_test(MANY)):
        second, first = np.argsort(probs[:, row].mean(axis=0))[-2:]
        a, b = probs[:, row, first], probs[:, row, second]
        freedom = (a.var() + b.var()) ** 2 / ((a.var() ** 2 + b.var() ** 2) / 4)
        t = (a.mean() - b.mean()) / np.sqrt((0.1 + a.var() + b.var()) / 5)
        assert found == pytest.approx(t - stats.t.ppf(0.975, freedom))


def test_weights_count_as_copies():
    copies = MANY[[0, 0, 0, 1]]
    for kind in ("arithmetic", "geometric"):
        found = mean_log_probs(MANY[:2], np.array([3.0, 1.0]), kind)
        assert found == pytest.approx(mean_log_probs(copies, kind=kind), abs=1e-12)
        first = mean_log_probs(CERTAIN, np.array([0.0, 2.0]), kind)
        assert np.exp(first) == pytest.approx(np.exp(CERTAIN[1]))


def test_the_geometric_mean_is_a_product_of_experts():
    product = np.exp(MANY).prod(axis=0) ** (1 / 5)
    expected = product / product.sum(axis=1, keepdims=True)
    assert np.exp(mean_log_probs(MANY, kind="geometric")) == pytest.approx(expected)


def test_experts_that_exclude_every_class_are_averaged():
    found = np.exp(mean_log_probs(CERTAIN, kind="geometric"))
    assert found == pytest.approx(np.array([[0.5, 0.5, 0], [1, 0, 0], [0.25, 0.25, 0.5]]))


def test_a_vote_weighs_the_certain_more():
    members = logs([[[0.9, 0.1]], [[0.4, 0.6]]])
    sharp = np.array([[0.81, 0.01], [0.16, 0.36]]) / np.array([[0.82], [0.52]])
    sure = 1 + (sharp * np.log(sharp)).sum(axis=1, keepdims=True) / np.log(2)
    vote = confidence_vote(members, normalised=False)
    assert vote[0] == pytest.approx((sure * sharp).mean(axis=0))
    assert vote.sum() == pytest.approx(sure.mean())
    assert confidence_vote(members)[0] == pytest.approx(vote[0] / vote.sum())
    assert confidence_vote(members)[0, 0] > np.exp(mean_log_probs(members))[0, 0]


def test_models_that_know_nothing_vote_for_nothing():
    assert confidence_vote(logs(np.full((3, 2, 4), 0.25))) == pytest.approx(np.full((2, 4), 0.25))


def test_a_label_that_models_disagree_about_has_a_share_and_a_spread():
    members = logs([[[0.8, 0.2]], [[0.7, 0.3]], [[0.4, 0.6]]])
    assert agreement(members) == pytest.approx([2 / 3])
    assert spread_of_label(members) == pytest.approx([np.std([0.8, 0.7, 0.4])])


@every_summary
def test_rows_permuted_give_the_result_permuted(summary):
    order = np.random.default_rng(1).permutation(MANY.shape[1])
    assert (summary(MANY[:, order]) == summary(MANY)[order]).all()


@every_summary
def test_shards_give_what_the_whole_gives(summary):
    parts = [summary(part) for part in np.array_split(MANY, 7, axis=1)]
    assert (np.concatenate(parts) == summary(MANY)).all()
    assert (summary(np.asfortranarray(MANY)) == summary(MANY)).all()


@every_summary
def test_the_order_of_the_models_does_not_matter(summary):
    assert summary(MANY[[3, 1, 4, 0, 2]]) == pytest.approx(summary(MANY), abs=1e-9)


@pytest.mark.parametrize("name", BELIEFS)
def test_one_model_is_given_back(name):
    found = EVERY[name](MANY[:1])
    if name == "vote":
        found = mean_log_probs(2 * MANY[:1], kind="geometric") - logs(found)
        assert found == pytest.approx(np.zeros_like(found), abs=1e-9)
    else:
        assert found == pytest.approx(MANY[0], abs=1e-12)
    assert spread_of_label(MANY[:1]).tolist() == [0] * 60
    assert agreement(MANY[:1]).tolist() == [1] * 60
    assert (margin_test(MANY[:1]) > 0).all()


@pytest.mark.filterwarnings("error")
@every_summary
@pytest.mark.parametrize(
    "members",
    [
        CERTAIN,
        CERTAIN[:1],
        CERTAIN.astype(np.float32),
        np.zeros((3, 2, 1)),
        np.zeros((4, 0, 3)),
        np.zeros((1, 0, 1)),
        logs(np.full((2, 2, 4), 0.25)),
        np.full((2, 1, 2), [-800.0, 0.0]),
    ],
    ids=["certain", "one", "float32", "one class", "no rows", "nothing", "uniform", "underflow"],
)
def test_odd_members_give_no_nan(summary, members):
    found = summary(members)
    assert found.dtype == np.float64
    assert found.shape[0] == members.shape[1]
    assert not np.isnan(found).any()


@pytest.mark.parametrize("name", BELIEFS)
@pytest.mark.parametrize("members", [MANY, CERTAIN, CERTAIN[:1], np.zeros((2, 3, 1))])
def test_beliefs_sum_to_one(name, members):
    found = EVERY[name](members)
    probs = found if name == "vote" else np.exp(found)
    assert probs.sum(axis=1) == pytest.approx(np.ones(members.shape[1]))


@pytest.mark.filterwarnings("error")
@every_summary
def test_a_row_of_nan_stays_nan_and_moves_no_other(summary):
    broken = MANY.copy()
    broken[2, 7] = np.nan
    found, whole = summary(broken), summary(MANY)
    assert np.isnan(found[7]).all()
    kept = np.arange(60) != 7
    assert (found[kept] == whole[kept]).all()


def test_certainty_is_one_for_the_certain_and_none_for_the_uniform():
    found = entropy_confidence(logs([[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]]))
    assert found == pytest.approx([1, 0, 1 - np.log(2) / np.log(3)])
    assert entropy_confidence(np.zeros((2, 1))).tolist() == [1, 1]
    assert entropy_confidence(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mean_log_probs(MANY[0]),
        lambda: mean_log_probs(MANY[:0]),
        lambda: mean_log_probs(MANY, np.ones(2)),
        lambda: mean_log_probs(MANY, np.zeros(5)),
        lambda: mean_log_probs(MANY, -np.ones(5)),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        wrong()
