"""Combiners: each by hand, laws of rows and sources, memory, and that doubt survives a table."""

import warnings
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest

from trainables.beliefs import DOUBT, Beliefs
from trainables.combining import (
    Choose,
    Combiner,
    ConfidenceVote,
    First,
    LabelModel,
    Mean,
    Medoid,
    Specialists,
    combined,
)
from trainables.ensembles import agreement, margin_test, mean_log_probs, spread_of_label
from trainables.schemas import SchemaError, conform, predictions

EVERY = (
    Mean(),
    Mean(average="geometric"),
    ConfidenceVote(),
    ConfidenceVote(temperature=1.0),
    Specialists(),
    Choose(),
    Choose(by="entropy"),
    Choose(by="confidence"),
    First(),
    Medoid(),
    Medoid(weights="triplets"),
    LabelModel(model="majority"),
    LabelModel(model="one_coin"),
    LabelModel(model="one_coin", multiplicity=2),
    LabelModel(model="triplets"),
    LabelModel(model="dawid_skene"),
    LabelModel(model="dawid_skene", abstain_below=0.5),
)
every_combiner = pytest.mark.parametrize("combiner", EVERY, ids=str)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def logs(probs) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probs, np.float32))


def told(sources: int = 3, num: int = 60, classes: int = 4, seed: int = 0) -> np.ndarray:
    """Log-probabilities float32 [M, N, C] of sources that lean to one truth."""
    stream = np.random.default_rng(seed)
    logits = stream.normal(size=(sources, num, classes))
    logits += 3 * np.eye(classes)[stream.integers(0, classes, num)]
    return (logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)).astype(np.float32)


def ids(num: int) -> list[str]:
    return [f"row-{i}" for i in range(num)]


def probs(combiner, rows: np.ndarray) -> np.ndarray:
    return np.exp(combiner.fit(rows).log_probs(rows))


THREE = logs([[[0.8, 0.2, 0]], [[0.5, 0.4, 0.1]], [[0.1, 0.6, 0.3]]])


def test_every_combiner_has_an_example():
    assert {type(c) for c in EVERY} == set(get_args(get_args(Combiner)[0]))


def test_the_arithmetic_mean_is_the_mean_of_the_probabilities():
    assert probs(Mean(), THREE)[0] == pytest.approx([1.4 / 3, 0.4, 0.4 / 3], abs=1e-6)


def test_the_geometric_mean_is_a_product_of_experts():
    product = np.cbrt([0.8 * 0.5 * 0.1, 0.2 * 0.4 * 0.6, 0])
    found = probs(Mean(average="geometric"), THREE)[0]
    assert found == pytest.approx(product / product.sum(), abs=1e-6)


def test_a_vote_by_confidence_weighs_sharpened_rows_by_their_certainty():
    rows = logs([[[0.9, 0.1]], [[0.4, 0.6]]])
    sharp = np.array([[0.81, 0.01], [0.16, 0.36]]) / np.array([[0.82], [0.52]])
    sure = 1 + (sharp * np.log(sharp)).sum(axis=1, keepdims=True) / np.log(2)
    vote = (sure * sharp).sum(axis=0)
    assert probs(ConfidenceVote(), rows)[0] == pytest.approx(vote / vote.sum(), abs=1e-6)


def test_an_unsure_vote_counts_less_against_what_is_remembered():
    rows = logs([[[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.5, 0.5]]])
    sharp = np.exp(2 * rows) / np.exp(2 * rows).sum(axis=2, keepdims=True)
    sure = 1 + (sharp * np.log(sharp)).sum(axis=2, keepdims=True) / np.log(2)
    vote, memory = (sure * sharp).mean(axis=0), np.array([[0.3, 0.7], [0.3, 0.7]])
    blend = 0.7 * vote + 0.3 * memory
    found = combined(ConfidenceVote(), ids(2), rows, np.log(memory), 0.3)
    expected = blend / blend.sum(axis=1, keepdims=True)
    assert np.exp(found.log_probs) == pytest.approx(expected, abs=1e-6)
    assert found.labels.tolist() == [0, 1]


def test_a_vote_of_which_nothing_is_certain_leaves_what_is_remembered():
    rows, memory = logs(np.full((2, 1, 2), 0.5)), np.log([[0.3, 0.7]])
    found = combined(ConfidenceVote(), ids(1), rows, memory, 0.3)
    assert found.log_probs == pytest.approx(memory, abs=1e-6)


def test_the_source_that_knows_a_row_best_is_chosen_for_it():
    flat, peaked = [0.4, 0.3, 0.3], [0.6, 0.35, 0.05]
    rows = logs([[flat, peaked], [peaked, flat]])
    for by in ("variance", "entropy", "confidence"):
        assert probs(Choose(by=by), rows) == pytest.approx(np.array([peaked, peaked]), abs=1e-6)


def test_two_experts_of_fedlabel_have_their_golden_variances():
    """The published ones are the sample's: 3 / 2 times those of the population, at 3 classes."""
    rows = logs([[[0.5, 0.3, 0.2]], [[0.2, 0.7, 0.1]]])
    found = 3 / 2 * Choose(by="variance").scores(rows)[:, 0]
    assert found == pytest.approx([0.023333, 0.103333], abs=1e-6)
    assert found[0] / found[1] == pytest.approx(0.225806, abs=1e-6)
    assert probs(Choose(by="variance"), rows)[0] == pytest.approx([0.2, 0.7, 0.1])


def test_variance_entropy_and_confidence_may_choose_differently():
    sure, two = [0.55, 0.15, 0.15, 0.15], [0.5, 0.5, 0, 0]  # variances 0.03 and 0.0625
    rows = logs([[sure], [two]])
    assert probs(Choose(by="variance"), rows)[0] == pytest.approx(two)
    assert probs(Choose(by="entropy"), rows)[0] == pytest.approx(two)
    assert probs(Choose(by="confidence"), rows)[0] == pytest.approx(sure, abs=1e-6)


def test_the_first_of_equally_good_sources_is_chosen():
    rows = logs([[[0.7, 0.3]], [[0.3, 0.7]]])
    assert probs(Choose(by="confidence"), rows)[0] == pytest.approx([0.7, 0.3])


def test_the_source_nearest_to_all_others_is_the_medoid_and_a_sure_outlier_moves_nothing():
    # distances: first to second 0.1, to the outlier 0.8; second to the outlier 0.7
    rows = logs([[[0.8, 0.2]], [[0.7, 0.3]], [[0.0, 1.0]]])
    assert probs(Medoid(), rows)[0] == pytest.approx([0.7, 0.3])
    assert probs(Mean(), rows)[0].argmax() == 0
    twice = logs([[[0.4, 0.6]], [[0.4, 0.6]], [[1.0, 0.0]]])
    assert probs(Medoid(), twice)[0] == pytest.approx([0.4, 0.6])
    assert probs(Mean(), twice)[0].argmax() == 0


def test_triplets_tell_a_medoid_which_of_its_sources_to_follow():
    stream = np.random.default_rng(0)
    truth = stream.integers(0, 3, 600)
    noise = np.array([0.3, 3, 3, 3])[:, None, None] * stream.normal(size=(4, 600, 3))
    logits = 3 * np.eye(3)[truth] + noise
    rows = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    right = {
        weights: (probs(Medoid(weights=weights), rows).argmax(axis=1) == truth).mean()
        for weights in ("equal", "triplets")
    }
    assert right["triplets"] > right["equal"] + 0.05


def test_a_majority_is_the_shares_of_the_votes():
    assert probs(LabelModel(model="majority"), THREE)[0] == pytest.approx([2 / 3, 1 / 3, 0])


def test_an_unsure_source_does_not_vote():
    model = LabelModel(model="majority", abstain_below=0.55)
    assert probs(model, THREE)[0] == pytest.approx([0.5, 0.5, 0])
    assert probs(LabelModel(model="majority", abstain_below=0.9), THREE)[0] == pytest.approx(
        [1 / 3] * 3
    )


def test_a_label_model_learns_which_source_to_trust():
    stream = np.random.default_rng(0)
    truth = stream.integers(0, 3, 600)

    def votes(right: float) -> np.ndarray:
        wrong = (truth + stream.integers(1, 3, 600)) % 3
        return np.where(stream.random(600) < right, truth, wrong)

    rows = logs(0.02 + 0.94 * np.eye(3)[np.stack([votes(r) for r in (0.95, 0.45, 0.45)])])
    accuracy = {
        model: float((probs(LabelModel(model=model), rows).argmax(axis=1) == truth).mean())
        for model in ("majority", "one_coin", "triplets", "dawid_skene")
    }
    assert accuracy["majority"] < 0.9
    assert min(accuracy[each] for each in ("one_coin", "triplets", "dawid_skene")) > 0.93


@every_combiner
def test_shards_give_what_the_whole_gives_after_the_fit(combiner):
    rows = told()
    fitted = combiner.fit(rows)
    parts = [fitted.log_probs(part) for part in np.array_split(rows, 7, axis=1)]
    assert (np.concatenate(parts) == fitted.log_probs(rows)).all()


@every_combiner
def test_rows_permuted_give_the_result_permuted_and_the_same_fit(combiner):
    rows, order = told(), np.random.default_rng(1).permutation(60)
    found = combiner.fit(rows[:, order]).log_probs(rows[:, order])
    assert found == pytest.approx(combiner.fit(rows).log_probs(rows)[order], abs=1e-9)


@every_combiner
def test_combined_rows_are_distributions(combiner):
    assert probs(combiner, told()).sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)


GIVEN_BACK = tuple(c for c in EVERY if isinstance(c, Mean | Choose))


@pytest.mark.parametrize("combiner", GIVEN_BACK, ids=str)
@pytest.mark.parametrize("sources", [1, 3])
def test_sources_of_equal_beliefs_give_them_back(combiner, sources):
    one = told(1)
    found = combiner.fit(one).log_probs(np.repeat(one, sources, axis=0))
    assert found == pytest.approx(one[0], abs=1e-6)


@pytest.mark.parametrize("combiner", [c for c in EVERY if c not in GIVEN_BACK], ids=str)
def test_sources_of_equal_beliefs_keep_their_label(combiner):
    one = np.repeat(told(1), 3, axis=0)
    if isinstance(combiner, LabelModel) and combiner.abstain_below:
        one = one[:, one[0].max(axis=1) > np.log(combiner.abstain_below)]
    assert (probs(combiner, one).argmax(axis=1) == one[0].argmax(axis=1)).all()


@pytest.mark.parametrize(
    "combiner", [c for c in EVERY if not isinstance(c, Choose | First)], ids=str
)
def test_the_order_of_the_sources_does_not_matter(combiner):
    rows = told()
    assert probs(combiner, rows[[2, 0, 1]]) == pytest.approx(probs(combiner, rows), abs=1e-6)


@every_combiner
def test_a_row_that_no_source_has_numbers_for_stays_unusable_and_moves_no_other(combiner):
    rows = told()
    whole = combiner.fit(rows)
    rows[:, 7] = np.nan
    with np.errstate(invalid="ignore"):
        found = combined(whole, ids(60), rows)
    kept = np.arange(60) != 7
    assert (found.log_probs[kept] == whole.log_probs(told())[kept].astype(np.float32)).all()
    assert found.usable().tolist() == kept.tolist()


@pytest.mark.parametrize("combiner", [c for c in EVERY if isinstance(c, Mean | ConfidenceVote)])
def test_a_row_that_one_averaged_source_has_no_numbers_for_is_unusable(combiner):
    rows = told()
    rows[1, 7] = np.nan
    found = combined(combiner.fit(rows), ids(60), rows)
    assert np.flatnonzero(~found.usable()).tolist() == [7]


@every_combiner
def test_a_row_without_a_memory_is_what_it_is_told_now(combiner):
    rows, before = told(), told(3)[0]
    before[7] = np.nan
    fitted = combiner.fit(rows)
    found = combined(fitted, ids(60), rows, before, 0.4)
    now, then = combined(fitted, ids(60), rows), combined(fitted, ids(60), rows, told(3)[0], 0.4)
    kept = np.arange(60) != 7
    assert found.log_probs[7] == pytest.approx(now.log_probs[7], abs=1e-6)
    for name in DOUBT:
        ours, alone, both = (getattr(each.doubt, name) for each in (found, now, then))
        assert ours[7] == pytest.approx(alone[7], abs=1e-6), "memory that it had not is no source"
        assert (ours[kept] == both[kept]).all()
    assert (found.log_probs[kept] == then.log_probs[kept]).all()
    assert found.usable().all()


@every_combiner
def test_a_sample_without_rows_is_fitted_and_no_rows_are_combined(combiner):
    fitted = combiner.fit(np.zeros((3, 0, 4), np.float32))
    assert fitted.log_probs(np.zeros((3, 0, 4), np.float32)).shape == (0, 4)
    assert np.exp(fitted.log_probs(told())).sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)


@every_combiner
def test_certain_sources_that_contradict_each_other_give_no_nan(combiner):
    certain = logs([[[1, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 0, 0]]])
    found = combined(combiner.fit(certain), ids(2), certain)
    assert found.usable().all()
    assert found.labels[1] == 0


@every_combiner
def test_combined_beliefs_carry_their_labels_and_how_far_the_sources_are_apart(combiner):
    rows = told()
    found = combined(combiner.fit(rows), ids(60), rows)
    assert found.example_ids == ids(60)
    assert (found.labels == found.log_probs.argmax(axis=1)).all()
    assert found.confidence == pytest.approx(np.exp(found.log_probs.max(axis=1)), abs=1e-6)
    assert found.log_probs.dtype == np.float32
    assert found.doubt.agreement == pytest.approx(agreement(rows, found.labels), abs=1e-6)
    assert found.doubt.spread == pytest.approx(spread_of_label(rows, found.labels), abs=1e-6)
    assert found.doubt.margin == pytest.approx(margin_test(rows), abs=1e-5)
    assert {getattr(found.doubt, name).dtype for name in DOUBT} == {np.dtype(np.float32)}


def test_a_memory_counts_the_round_before_with_its_share():
    before, now = logs([[0.9, 0.1], [0.5, 0.5]]), logs([[[0.4, 0.6], [0.1, 0.9]]])
    found = combined(Mean(), ids(2), now, before, keep=0.25)
    assert np.exp(found.log_probs) == pytest.approx(
        np.array([[0.525, 0.475], [0.2, 0.8]]), abs=1e-6
    )
    assert found.labels.tolist() == [0, 1]


def test_a_memory_of_a_round_is_that_of_all_rounds_before_ever_weaker():
    rounds = [told(1, seed=seed) for seed in range(3)]
    kept = rounds[0][0]
    for now in rounds[1:]:
        kept = combined(Mean(), ids(60), now, kept, keep=0.4).log_probs
    shares = np.array([0.16, 0.24, 0.6])
    assert kept == pytest.approx(mean_log_probs(np.concatenate(rounds), shares), abs=1e-5)


def test_a_memory_that_keeps_nearly_all_keeps_the_first_labels():
    """Twenty rounds of others move no probability by more than 20 times what is let in."""
    first = told(1)[0]
    kept = first
    for seed in range(1, 21):
        kept = combined(Mean(), ids(60), told(1, seed=seed), kept, keep=1 - 1e-6).log_probs
    assert np.exp(kept) == pytest.approx(np.exp(first), abs=2e-5)
    assert (kept.argmax(axis=1) == first.argmax(axis=1)).all()
    assert (told(1, seed=20)[0].argmax(axis=1) != first.argmax(axis=1)).any()


@pytest.mark.parametrize(("before", "keep"), [(None, 0.5), (told(1, seed=5)[0], 0.0)])
def test_nothing_kept_is_nothing_remembered(before, keep):
    rows = told()
    found = combined(Mean(), ids(60), rows, before, keep)
    assert (found.log_probs == combined(Mean(), ids(60), rows).log_probs).all()


def test_doubt_survives_a_table_and_its_schema():
    rows = told()
    found, schema = combined(Mean(), ids(60), rows), predictions(4, doubt=True)
    table = conform(found.to_table(schema), schema, "here")
    again = Beliefs.of_table(pa.concat_tables([table.slice(0, 13), table.slice(13)]))
    for name in DOUBT:
        assert (getattr(again.doubt, name) == getattr(found.doubt, name)).all()
    assert (again.log_probs == found.log_probs).all()
    part = Beliefs.of_table(table.slice(5, 3))
    assert (part.doubt.spread == found.doubt.spread[5:8]).all()


def test_a_table_of_one_source_has_no_doubt_and_one_of_no_rows_may():
    plain = Beliefs.of_log_probs(ids(2), told(1, num=2)[0])
    assert Beliefs.of_table(plain.to_table(predictions(4))).doubt is None
    empty = Beliefs.of_table(predictions(4, doubt=True).empty_table())
    assert (len(empty), len(empty.doubt.margin)) == (0, 0)


def test_doubt_that_a_schema_does_not_declare_is_surplus_and_missing_where_it_does():
    table = combined(Mean(), ids(3), told(num=3)).to_table(predictions(4, doubt=True))
    with pytest.raises(SchemaError, match="surplus agreement: float.*surplus margin"):
        conform(table, predictions(4), "here")
    with pytest.raises(SchemaError, match="missing agreement: float; missing spread"):
        conform(table.drop_columns([*DOUBT]), predictions(4, doubt=True), "here")


def test_doubt_is_about_the_label_that_the_combiner_gives():
    rows = np.repeat(logs([[0.9, 0.1], [0.45, 0.55], [0.45, 0.55]])[:, None], 4, axis=1)
    found = combined(LabelModel(model="majority").fit(rows), ids(4), rows)
    assert found.labels.tolist() == [1] * 4
    assert found.doubt.agreement == pytest.approx([2 / 3] * 4)
    assert found.doubt.spread == pytest.approx([np.std([0.1, 0.55, 0.55])] * 4, abs=1e-6)


def test_the_first_source_alone_decides_and_the_others_doubt():
    rows = told(sources=3)
    found = combined(First(), ids(60), rows)
    assert np.array_equal(found.log_probs, rows[0])
    labels = rows.argmax(2)
    agreed = (1 + (labels[1:] == labels[0]).sum(0)) / 3
    assert found.doubt.agreement == pytest.approx(agreed)
