import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.selectors.pools import part
from trainables.beliefs import Beliefs
from trainables.selectors import sketch as module
from trainables.selectors.fixed import ClassTopK
from trainables.selectors.rules import Labelled
from trainables.selectors.sketch import Sketch, confidence_of, row_keys, sketch

QUICK = settings(deadline=None, derandomize=True, max_examples=60)
LABELS = st.lists(st.integers(0, 2), max_size=40)


def believed(confidence: np.ndarray, labels: np.ndarray | None = None, classes: int = 3) -> Beliefs:
    """Rows of the given confidences, the rest of each row spread over the other classes."""
    confidence = np.asarray(confidence, np.float32)
    labels = np.zeros(len(confidence), np.int64) if labels is None else np.asarray(labels, np.int64)
    log_probs = np.full((len(labels), classes), -9.0, np.float32)
    with np.errstate(divide="ignore"):
        log_probs[np.arange(len(labels)), labels] = np.log(confidence)
    return Beliefs([f"row-{i}" for i in range(len(labels))], labels, confidence, log_probs)


def random_pool(num: int, seed: int = 0) -> Beliefs:
    stream = np.random.default_rng(seed)
    return believed(stream.uniform(0.34, 1, num), stream.integers(0, 3, num))


def of(beliefs: Beliefs, *, coarse: bool = False) -> Sketch:
    return sketch(beliefs, pool_rows=module.EXACT_ROWS + coarse, seed=0)


def content(found: Sketch) -> dict[int, list[tuple[int, int]]]:
    return {
        label: list(zip(found.keys[label].tolist(), found.counts[label].tolist(), strict=True))
        for label in sorted(found.keys)
    }


@QUICK
@given(
    confidence=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30),
    coarse=st.booleans(),
)
def test_keys_grow_with_confidence(confidence, coarse):
    keys = row_keys(believed(np.array(confidence)), coarse=coarse, seed=0)
    order = np.argsort(keys, kind="stable")
    ranked = np.float32(confidence)[order]
    slack = 2.0**-14 if coarse else 0
    assert np.all(ranked[1:] >= ranked[:-1] * (1 - slack) - 1e-38)


@QUICK
@given(confidence=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30))
def test_an_exact_key_gives_its_confidence_back(confidence):
    keys = row_keys(believed(np.array(confidence)), coarse=False, seed=0)
    assert np.array_equal(confidence_of(keys, coarse=False), np.float32(confidence))


@QUICK
@given(confidence=st.lists(st.floats(2.0**-100, 1, width=32), min_size=1, max_size=30))
def test_a_coarse_key_gives_its_confidence_back_within_its_stated_bound(confidence):
    keys = row_keys(believed(np.array(confidence)), coarse=True, seed=0)
    found, exact = confidence_of(keys, coarse=True), np.float32(confidence)
    assert (found <= exact).all()
    assert (found >= exact * (1 - 2.0**-14)).all()


def test_equal_confidences_are_ordered_by_a_seeded_hash_of_the_id():
    beliefs = believed(np.full(30, 0.5))
    orders = [np.argsort(row_keys(beliefs, coarse=False, seed=s)).tolist() for s in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != list(range(30))


@pytest.mark.parametrize("coarse", [False, True])
@QUICK
@given(labels=LABELS, cuts=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_merged_shards_are_the_sketch_of_the_whole_in_any_order(coarse, labels, cuts):
    stream = np.random.default_rng(len(labels))
    whole = believed(stream.choice([0.4, 0.5, 0.9], len(labels)), np.array(labels))
    low, high = sorted(cuts)
    a, b, c = (
        of(part(whole, np.arange(len(labels))[cut]), coarse=coarse)
        for cut in (slice(0, low), slice(low, high), slice(high, None))
    )
    expected = content(of(whole, coarse=coarse))
    assert content(a.merge(b).merge(c)) == expected
    assert content(c.merge(a.merge(b))) == expected
    assert content(b.merge(c).merge(a)) == expected


def test_merging_leaves_both_sketches_as_they_were():
    first, second = of(random_pool(20, 0)), of(random_pool(20, 1))
    before = content(first), content(second)
    first.merge(second)
    assert (content(first), content(second)) == before


def test_sketches_of_two_pools_are_not_merged():
    exact, coarse = of(random_pool(5)), of(random_pool(5), coarse=True)
    with pytest.raises(ValueError, match="one pool"):
        exact.merge(coarse)
    with pytest.raises(ValueError, match="one pool"):
        exact.merge(of(believed(np.array([0.5]), classes=4)))


def test_the_size_of_the_pool_decides_what_is_kept_not_that_of_the_shard(monkeypatch):
    monkeypatch.setattr(module, "EXACT_ROWS", 100)
    shard = random_pool(3)
    assert not sketch(shard, pool_rows=100, seed=0).coarse
    assert sketch(shard, pool_rows=101, seed=0).coarse


def test_a_coarse_sketch_keeps_few_keys_however_many_rows_agree():
    found = of(believed(np.full(5000, 0.75)), coarse=True)
    assert len(found.keys[0]) <= 16
    assert found.class_rows().tolist() == [5000, 0, 0]


def test_a_coarse_sketch_still_splits_rows_that_are_all_certain():
    found = of(believed(np.ones(5000)), coarse=True)
    rule = ClassTopK(k=100).fit(found, Labelled(np.ones(3, np.int64)), 0)
    accepted = rule.accepts(believed(np.ones(5000))).sum()
    assert 100 <= accepted <= 102


@pytest.mark.parametrize("coarse", [False, True])
def test_rows_of_each_class_are_counted_exactly(coarse):
    pool = random_pool(3000)
    expected = np.bincount(pool.labels, minlength=3).tolist()
    assert of(pool, coarse=coarse).class_rows().tolist() == expected


@pytest.mark.parametrize("num_rows", [1, 2, 17, 60])
def test_a_class_cut_is_the_key_of_the_last_row_taken(num_rows):
    pool = random_pool(200)
    for label in range(3):
        keys = np.sort(
            row_keys(part(pool, np.flatnonzero(pool.labels == label)), coarse=False, seed=0)
        )
        assert of(pool).class_cut(label, num_rows) == keys[-min(num_rows, len(keys))]


def test_a_cut_of_no_rows_or_of_an_absent_class_is_above_every_key():
    pool = random_pool(20)
    highest = int(row_keys(pool, coarse=False, seed=0).max())
    assert of(pool).class_cut(0, 0) > highest
    assert of(part(pool, [])).class_cut(1, 5) > highest


@pytest.mark.parametrize("num_rows", [1, 5, 100, 700])
def test_a_coarse_cut_takes_the_asked_rows_and_at_most_one_key_more(num_rows):
    pool = believed(np.random.default_rng(0).uniform(0.9, 1, 3000))
    keys, cut = row_keys(pool, coarse=True, seed=0), of(pool, coarse=True).class_cut(0, num_rows)
    assert (keys > cut).sum() < num_rows <= (keys >= cut).sum()
    wanted = np.sort(pool.confidence)[-num_rows]
    assert pool.confidence[keys >= cut].min() >= wanted * (1 - 2.0**-14)


@QUICK
@given(
    confidence=st.lists(st.floats(2.0**-20, 1, width=32), min_size=1, max_size=40),
    share=st.floats(0, 1),
)
def test_a_quantile_is_linear_between_order_statistics(confidence, share):
    labels = np.arange(len(confidence)) % 3
    found = of(believed(np.array(confidence), labels)).quantile(share)
    expected = np.quantile(np.float32(confidence).astype(np.float64), share)
    assert found == pytest.approx(expected, rel=1e-6, abs=2e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8, 0.999, 1.0])
def test_a_coarse_quantile_is_within_its_stated_bound_of_the_exact_one(share):
    pool = random_pool(4000)
    exact, coarse = of(pool).quantile(share), of(pool, coarse=True).quantile(share)
    assert exact * (1 - 2.0**-14) <= coarse <= exact


def test_no_row_has_a_quantile_that_none_reaches():
    assert of(random_pool(0)).quantile(0.5) > 1


def test_rows_of_nan_are_not_counted():
    pool = random_pool(30)
    pool.log_probs[[3, 7], 1] = np.nan
    kept = [i for i in range(30) if i not in (3, 7)]
    assert content(of(pool)) == content(of(part(pool, kept)))


def test_statistics_of_a_pool_are_those_of_its_rows():
    pool = random_pool(50)
    found, wide = of(pool), pool.confidence.astype(np.float64)
    assert found.mean_confidence() == pytest.approx(wide.mean())
    assert found.confidence_variance() == pytest.approx(wide.var(ddof=1))
    sure, unsure = found.sure_rows(0.7)
    mine = pool.confidence >= np.float32(0.7)
    assert sure.tolist() == np.bincount(pool.labels[mine], minlength=3).tolist()
    assert unsure == (~mine).sum()


def test_no_row_has_equal_shares_and_neither_mean_nor_variance():
    found = of(random_pool(0))
    assert found.shares() == pytest.approx([1 / 3] * 3)
    assert found.mean_confidence() == found.confidence_variance() == 0
    assert of(random_pool(1)).confidence_variance() == 0
