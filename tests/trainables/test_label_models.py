"""Label models: golden values, laws of rows and sources, and that the truth is found again."""

import numpy as np
import pytest

from trainables.label_models import DawidSkene, OneCoin, Votes, medoid, triplet_weights

UNIFORM = np.full(3, 1 / 3)
EVERY = {
    "majority": lambda votes: votes.majority(),
    "one coin": lambda votes: votes.one_coin(),
    "one coin with a prior": lambda votes: votes.one_coin(estimate_prior=True),
    "one coin of copies": lambda votes: votes.one_coin(multiplicity=2),
    "one coin of triplets": lambda votes: votes.one_coin_of_triplets(),
    "dawid skene": lambda votes: votes.dawid_skene(),
}
every_model = pytest.mark.parametrize("fit", EVERY.values(), ids=EVERY)


def simulated(accuracies, num_rows=2000, num_classes=3, silent=0.0, seed=0):
    """Truth [N] and votes [N, M] of sources that are wrong in any way equally often."""
    stream = np.random.default_rng(seed)
    truth = stream.integers(0, num_classes, num_rows)
    shape = (num_rows, len(accuracies))
    wrong = (truth[:, None] + stream.integers(1, num_classes, shape)) % num_classes
    votes = np.where(stream.random(shape) < accuracies, truth[:, None], wrong)
    votes[stream.random(shape) < silent] = -1
    return truth, votes


TRUTH, VOTES = simulated([0.9, 0.7, 0.6])
_, GAPPY = simulated([0.9, 0.7, 0.6], num_rows=200, silent=0.3)


def right(labels, truth):
    return float((labels.argmax(axis=1) == truth).mean())


def test_the_one_coin_model_has_its_golden_posteriors():
    model = OneCoin(UNIFORM, np.array([0.9, 0.7, 0.6]))
    found = model.labels(np.array([[0, 1, 1], [0, 0, 1], [2, 2, 0]]))
    assert found[0] == pytest.approx([0.545455, 0.424242, 0.030303], abs=1e-6)
    assert found[1] == pytest.approx([0.954545, 0.034091, 0.011364], abs=1e-6)
    assert found[2] == pytest.approx([0.034091, 0.011364, 0.954545], abs=1e-6)


def test_the_one_coin_model_is_dawid_skene_with_one_number_a_source():
    accuracy = np.array([0.9, 0.7, 0.6])
    confusion = np.repeat((1 - accuracy) / 2, 9).reshape(3, 3, 3)
    confusion[:, np.arange(3), np.arange(3)] = accuracy[:, None]
    prior = np.array([0.5, 0.3, 0.2])
    both = OneCoin(prior, accuracy), DawidSkene(prior, confusion)
    assert both[0].labels(GAPPY) == pytest.approx(both[1].labels(GAPPY), abs=1e-12)


def test_votes_count_by_their_weight():
    votes = np.array([[0, 1, 1], [0, -1, 2], [-1, -1, -1]])
    prior = np.array([0.5, 0.25, 0.25])
    found = Votes(votes, 3).majority(np.array([3.0, 1.0, 1.0]), prior).labels(votes)
    assert found == pytest.approx(np.array([[0.6, 0.4, 0], [0.75, 0, 0.25], prior]))


@every_model
def test_rows_permuted_give_the_result_permuted_to_the_bit(fit):
    order = np.random.default_rng(1).permutation(len(GAPPY))
    whole = fit(Votes(GAPPY, 3)).labels(GAPPY)
    assert (fit(Votes(GAPPY[order], 3)).labels(GAPPY[order]) == whole[order]).all()


@every_model
def test_shards_give_what_the_whole_gives(fit):
    model = fit(Votes(GAPPY, 3))
    shards = [model.labels(part) for part in np.array_split(GAPPY, 7)]
    assert (np.concatenate(shards) == model.labels(GAPPY)).all()


@every_model
def test_the_order_of_the_sources_does_not_matter(fit):
    turned = GAPPY[:, [2, 0, 1]]
    found = fit(Votes(turned, 3)).labels(turned)
    assert found == pytest.approx(fit(Votes(GAPPY, 3)).labels(GAPPY), abs=1e-9)


@every_model
def test_names_of_classes_do_not_matter(fit):
    renamed = np.append([2, 0, 1], -1)[GAPPY]
    found = fit(Votes(renamed, 3)).labels(renamed)
    assert found[:, [2, 0, 1]] == pytest.approx(fit(Votes(GAPPY, 3)).labels(GAPPY), abs=1e-9)


@every_model
def test_one_source_is_given_back(fit):
    only = np.arange(30).reshape(-1, 1) % 3
    assert fit(Votes(only, 3)).labels(only).argmax(axis=1).tolist() == only[:, 0].tolist()


@every_model
def test_perfect_sources_are_followed_exactly(fit):
    truth, votes = simulated([1.0, 1.0, 1.0], num_rows=60, silent=0.3)
    voted = (votes >= 0).any(axis=1)
    found = fit(Votes(votes, 3)).labels(votes)
    assert right(found[voted], truth[voted]) == 1


@every_model
def test_a_row_without_votes_gets_the_prior(fit):
    model = fit(Votes(GAPPY, 3))
    assert model.labels(np.full((2, 3), -1)) == pytest.approx(np.stack([model.prior] * 2))


@every_model
@pytest.mark.parametrize(
    ("votes", "num_classes"),
    [
        (np.full((4, 3), -1), 3),
        (np.zeros((4, 2), np.int64), 1),
        (np.zeros((0, 3), np.int64), 3),
        (np.array([[0], [2], [-1]]), 3),
        (np.array([[0, 1]]), 5),
    ],
    ids=["all abstain", "one class", "no rows", "one source", "unseen classes"],
)
def test_odd_tables_give_distributions(fit, votes, num_classes):
    found = fit(Votes(votes, num_classes)).labels(votes)
    assert found.shape == (len(votes), num_classes)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(votes)))


@pytest.mark.parametrize("silent", [0.0, 0.2])
def test_em_finds_the_accuracies_and_so_beats_the_majority(silent):
    truth, votes = simulated([0.9, 0.7, 0.6], silent=silent)
    model = Votes(votes, 3).one_coin()
    assert model.accuracy == pytest.approx([0.9, 0.7, 0.6], abs=0.05)
    assert right(model.labels(votes), truth) > right(
        Votes(votes, 3).majority().labels(votes), truth
    )


def test_accuracies_start_where_they_are_told_within_bounds():
    silent = np.full((5, 3), -1)
    found = Votes(silent, 3).one_coin(accuracy=np.array([1.0, 0.6, 0.0])).accuracy
    assert found == pytest.approx([0.95, 0.6, 0.05])


def test_the_start_decides_which_of_two_sources_is_trusted():
    votes = VOTES[:, :2]
    for better in (0, 1):
        start = np.where(np.arange(2) == better, 0.9, 0.6)
        found = Votes(votes, 3).one_coin(accuracy=start).labels(votes)
        assert found.argmax(axis=1).tolist() == votes[:, better].tolist()


def test_an_estimated_prior_finds_the_balance():
    truth, votes = simulated([0.9, 0.8, 0.8])
    kept = (truth > 0) | (np.arange(len(truth)) % 4 == 0)
    balance = np.bincount(truth[kept]) / kept.sum()
    found = Votes(votes[kept], 3).one_coin(estimate_prior=True)
    assert found.prior == pytest.approx(balance, abs=0.03)
    assert Votes(votes[kept], 3).one_coin(balance).prior == pytest.approx(balance)


def test_two_copies_of_every_source_count_once_with_a_multiplicity_of_two():
    twice = np.concatenate([GAPPY, GAPPY], axis=1)
    once = Votes(GAPPY, 3).one_coin()
    copied = Votes(twice, 3).one_coin(multiplicity=2)
    assert copied.labels(twice) == pytest.approx(once.labels(GAPPY), abs=1e-9)
    assert Votes(twice, 3).one_coin().labels(twice).max(1).mean() > once.labels(GAPPY).max(1).mean()


def test_dawid_skene_reads_a_source_that_swaps_two_classes():
    truth, votes = simulated([0.7, 0.7, 0.95])
    votes[:, 2] = np.array([1, 0, 2])[votes[:, 2]]
    model = Votes(votes, 3).dawid_skene()
    found = {name: right(fit(Votes(votes, 3)).labels(votes), truth) for name, fit in EVERY.items()}
    assert model.confusion[2].argmax(axis=1).tolist() == [1, 0, 2]
    assert found["dawid skene"] > found["majority"] + 0.1
    assert found["dawid skene"] > found["one coin"]


def test_known_rows_turn_a_majority_that_is_wrong():
    truth, votes = simulated([0.8, 0.8, 0.8])
    votes = np.array([1, 0, 2])[votes]  # every source swaps 0 and 1
    known = np.where(np.arange(len(truth)) % 10 == 0, truth, -1)
    alone, told = Votes(votes, 3).dawid_skene(), Votes(votes, 3).dawid_skene(truth)
    assert right(alone.labels(votes), truth) < 0.4
    assert right(told.labels(votes), truth) > 0.85
    some = Votes(votes, 3).dawid_skene(known)
    assert some.confusion[:, 0, 1].min() > alone.confusion[:, 0, 1].max()


def test_known_rows_alone_give_their_counts():
    votes = np.array([[0], [0], [1], [1], [1]])
    model = Votes(votes, 2).dawid_skene(np.array([0, 0, 0, 1, 1]), smoothing=1)
    assert model.confusion[0] == pytest.approx(np.array([[3 / 5, 2 / 5], [1 / 4, 3 / 4]]))
    assert model.prior == pytest.approx([4 / 7, 3 / 7])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Votes(np.array([[3]]), 3),
        lambda: Votes(np.array([[-2]]), 3),
        lambda: Votes(np.array([[0.5]]), 3),
        lambda: Votes(np.array([0, 1]), 3),
        lambda: Votes(VOTES, 3).majority().labels(VOTES[:, :2]),
        lambda: Votes(VOTES, 3).majority(np.array([1.0, -1.0, 1.0])),
        lambda: Votes(VOTES, 3).one_coin(np.zeros(3)),
        lambda: Votes(VOTES, 3).one_coin(accuracy=np.array([0.7])),
        lambda: Votes(VOTES, 3).one_coin(multiplicity=0.5),
        lambda: Votes(VOTES, 3).dawid_skene(smoothing=0),
        lambda: OneCoin(UNIFORM, np.array([1.0])),
        lambda: DawidSkene(UNIFORM, np.eye(3)[None]),
        lambda: Votes(VOTES, 3).one_coin_of_triplets(multiplicity=0.5),
        lambda: triplet_weights(np.zeros((2, 3))),
        lambda: medoid(np.zeros((2, 3))),
        lambda: medoid(np.array([[[0, np.nan], [1, 0]]])),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        wrong()


@pytest.mark.parametrize("silent", [0.0, 0.3])
def test_triplets_find_the_accuracies_of_em_without_a_start(silent):
    wanted = [0.9, 0.8, 0.7, 0.6]
    truth, votes = simulated(wanted, num_rows=4000, silent=silent)
    model = Votes(votes, 3).one_coin_of_triplets()
    assert model.accuracy == pytest.approx(wanted, abs=0.04)
    assert model.accuracy == pytest.approx(Votes(votes, 3).one_coin().accuracy, abs=0.04)
    assert right(model.labels(votes), truth) > right(
        Votes(votes, 3).majority().labels(votes), truth
    )


def test_three_sources_that_agree_as_their_accuracies_say_give_them_exactly():
    """2 classes, 0.9, 0.8, 0.7: above chance 0.8, 0.6, 0.4, so agreement 0.74, 0.66, 0.62."""
    accuracy, rows, counts = np.array([0.9, 0.8, 0.7]), [], []
    for errors in np.ndindex(2, 2, 2):
        chance = np.where(errors, 1 - accuracy, accuracy).prod()
        rows += [errors, 1 - np.array(errors)]  # of class 0 and of class 1
        counts += [round(1000 * chance)] * 2
    votes = np.repeat(np.array(rows), counts, axis=0)
    agreement = [(votes[:, i] == votes[:, j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert agreement == pytest.approx([0.74, 0.66, 0.62])
    assert Votes(votes, 2).one_coin_of_triplets().accuracy == pytest.approx(accuracy)


def test_a_source_of_noise_is_at_chance_and_spoils_no_other():
    _, votes = simulated([0.9, 0.8, 0.7, 1 / 3], num_rows=8000)
    assert Votes(votes, 3).one_coin_of_triplets().accuracy == pytest.approx(
        [0.9, 0.8, 0.7, 1 / 3], abs=0.04
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_classes", [3, 10])
def test_beside_one_of_noise_two_sources_are_thought_equally_good(num_classes, seed):
    accuracies = [0.9, 0.8, 1 / num_classes]
    _, votes = simulated(accuracies, num_rows=8000, num_classes=num_classes, seed=seed)
    first, second, third = Votes(votes, num_classes).one_coin_of_triplets().accuracy
    assert first == pytest.approx(second, abs=0.1)
    assert min(first, second) > 0.7
    assert third < 1 / num_classes + 0.1


def test_two_sources_are_thought_equally_good_and_one_as_good_as_em_starts_with():
    _, votes = simulated([0.8, 0.8], num_rows=4000)
    pair = Votes(votes, 3).one_coin_of_triplets().accuracy
    assert pair[0] == pair[1] == pytest.approx(0.8, abs=0.03)
    assert Votes(votes[:, :1], 3).one_coin_of_triplets().accuracy == pytest.approx([0.7])


def test_sources_never_seen_together_do_not_spoil_the_triplets_of_others():
    wanted = [0.9, 0.8, 0.7, 0.8, 0.6]
    _, votes = simulated(wanted, num_rows=8000)
    votes[::2, 0] = -1
    votes[1::2, 1] = -1
    assert Votes(votes, 3).one_coin_of_triplets().accuracy == pytest.approx(wanted, abs=0.05)


def squares(deviations, num_rows=4000, silent=0.0):
    """Squared distances [N, M, M] of points in the plane with independent errors."""
    stream = np.random.default_rng(0)
    shape = (num_rows, len(deviations), 2)
    places = stream.normal(size=shape) * np.array(deviations)[:, None]
    apart = ((places[:, :, None] - places[:, None]) ** 2).sum(axis=-1)
    gone = stream.random(shape[:2]) < silent
    apart[gone[:, :, None] | gone[:, None, :]] = np.nan
    return apart


@pytest.mark.parametrize("silent", [0.0, 0.3])
def test_triplets_weigh_sources_by_how_far_they_are_from_the_truth(silent):
    deviations = np.array([0.3, 0.6, 1.0, 2.0])
    found = triplet_weights(squares(deviations, silent=silent))
    assert found[1:] / found[1] == pytest.approx((0.6 / deviations[1:]) ** 2, rel=0.1)
    assert found[0] > 2.5 * found[1]


def test_triplets_weigh_three_sources_by_hand():
    """Distances 3, 5, 6: twice those from the truth are 2, 4, 8."""
    apart = np.array([[[0, 3, 5], [3, 0, 6], [5, 6, 0]]])
    found = triplet_weights(apart)
    assert found / found[0] == pytest.approx([1, 1 / 2, 1 / 4])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "apart",
    [
        np.zeros((0, 3, 3)),
        np.full((4, 3, 3), np.nan),
        np.zeros((4, 3, 3)),
        1.0 - np.eye(2)[None],
        np.zeros((4, 1, 1)),
    ],
    ids=["no rows", "all abstain", "all alike", "two", "one"],
)
def test_sources_that_nothing_tells_apart_are_worth_the_same(apart):
    assert (triplet_weights(apart) == 1).all()


def test_a_source_in_no_triplet_is_worth_what_the_others_are_on_average():
    apart = squares([0.5, 1.0, 2.0, 1.0])
    apart[:, 3, :] = apart[:, :, 3] = np.nan
    error = 1 / triplet_weights(apart)
    assert error[3] == pytest.approx(error[:3].mean())


def test_a_source_nearer_than_can_be_is_worth_a_bounded_share():
    found = triplet_weights(squares([0.0, 0.0, 1.0]))
    assert 0 < found[2] < 0.05
    assert found[:2] == pytest.approx(1)


def points(seed, num_rows=20, num=5):
    places = np.random.default_rng(seed).normal(size=(num_rows, num, 2))
    return np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)


def test_the_medoid_on_a_line_is_the_weighted_median():
    places = np.array([[0.0, 1.0, 9.0], [5.0, 2.0, 3.0]])
    apart = np.abs(places[:, :, None] - places[:, None])
    assert medoid(apart).tolist() == [1, 2]
    assert medoid(apart, np.array([1.0, 1.0, 5.0])).tolist() == [2, 2]


def test_the_medoid_of_classes_is_the_majority():
    _, votes = simulated([0.9, 0.7, 0.6, 0.6], num_rows=300)
    apart = (votes[:, :, None] != votes[:, None]).astype(float)
    found = votes[np.arange(len(votes)), medoid(apart)]
    share = Votes(votes, 3).majority().labels(votes)
    assert (share[np.arange(len(votes)), found] == share.max(axis=1)).all()


def test_the_medoid_follows_its_row_and_its_source():
    apart = points(0)
    found = medoid(apart)
    assert np.concatenate([medoid(part) for part in np.array_split(apart, 7)]).tolist() == (
        found.tolist()
    )
    order = np.array([3, 1, 4, 0, 2])
    assert order[medoid(apart[:, order][:, :, order])].tolist() == found.tolist()


def test_a_candidate_that_abstains_is_neither_chosen_nor_heard():
    apart = points(1)
    apart[:, 2], apart[:, :, 2] = np.nan, np.nan
    rest = np.array([0, 1, 3, 4])
    expected = rest[medoid(apart[:, rest][:, :, rest])]
    assert medoid(apart).tolist() == expected.tolist()


def test_odd_candidates_have_a_medoid_or_none():
    assert medoid(np.full((2, 3, 3), np.nan)).tolist() == [-1, -1]
    assert medoid(np.zeros((3, 1, 1))).tolist() == [0, 0, 0]
    assert medoid(np.zeros((1, 3, 3))).tolist() == [0], "the lowest on ties"
    assert medoid(np.zeros((0, 3, 3))).shape == (0,)
