"""Points as elements of selectors: chosen one by one, whatever the shards; banks that keep."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from trainables.landmarks.elements import chosen, elements, merged, selected_rows
from trainables.landmarks.found import FoundPoints
from trainables.landmarks.tables import floats_of, pairs_of, point_selection, prediction_table
from trainables.selectors.adaptive import MixtureThreshold
from trainables.selectors.fixed import ClassShare, ClassTopK, Everything, Threshold, TopShare
from trainables.selectors.rules import Labelled
from trainables.selectors.sketch import Sketch, sketch

NUM = 3
SCHEMA = point_selection(NUM)
NAN = float("nan")
SELECTORS = {
    "everything": Everything(),
    "threshold": Threshold(threshold=0.6),
    "share": TopShare(share=0.4),
    "share of each point": ClassShare(share=0.3),
    "most of each point": ClassTopK(k=7),
    "mixture": MixtureThreshold(),
}


def predictions(rows: int = 40, seed: int = 0) -> pa.Table:
    """Points with peaks of all sizes; a few were not found."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 32, (rows, NUM, 2)).astype(np.float32)
    points[rng.random((rows, NUM)) < 0.1] = NAN
    peak, spread, *near = rng.random((4, rows, NUM)).astype(np.float32)
    told = FoundPoints(points, points, peak, 9 * spread, *near)
    return prediction_table([f"row-{i:02d}" for i in range(rows)], told, NUM)


def sketched(shards: list[pa.Table], ranking: str = "peak") -> Sketch:
    rows = NUM * sum(shard.num_rows for shard in shards)
    parts = [
        sketch(elements(shard, ranking), pool_rows=rows, seed=3, num_classes=NUM)
        for shard in shards
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    return whole


def select(shards: list[pa.Table], selector, ranking: str = "peak") -> pa.Table:
    rule = selector.fit(sketched(shards, ranking), Labelled(np.zeros(NUM, np.int64)), 3)
    parts = []
    for shard in shards:
        seen = elements(shard, ranking)
        parts.append(chosen(shard, rule.accepts(seen), seen.confidence, SCHEMA))
    return pa.concat_tables(parts).combine_chunks()


def rows_of(table: pa.Table) -> list[str]:
    """Rows as texts, in which an unknown number is equal to itself."""
    return [repr(row) for row in table.to_pylist()]


def bank(rows: dict[str, list]) -> pa.Table:
    """A selection by id: points [K, 2] and weights [K]."""
    targets = np.array([points for points, _ in rows.values()], np.float32).reshape(-1, NUM, 2)
    weights = np.array([weight for _, weight in rows.values()], np.float32).reshape(-1, NUM)
    return selected_rows(list(rows), targets, weights, SCHEMA)


# ---- elements


@pytest.mark.parametrize("ranking", ["peak", "spread", "agreement", "consistency"])
def test_an_element_is_one_point_of_one_row_named_by_the_point(ranking):
    table = predictions(4)
    seen = elements(table, ranking)
    assert seen.example_ids[:4] == ["row-00/0", "row-00/1", "row-00/2", "row-01/0"]
    assert seen.labels.tolist() == [0, 1, 2] * 4
    assert ((seen.confidence >= 0) & (seen.confidence <= 1)).all()


def test_a_narrow_heatmap_is_surer_than_a_wide_one():
    table = predictions()
    spread = floats_of(table, "spread").ravel()
    seen = elements(table, "spread")
    order = np.argsort(spread[seen.usable()])
    assert (np.diff(seen.confidence[seen.usable()][order]) <= 0).all()


def test_a_point_that_was_not_found_is_never_accepted():
    table = predictions()
    lost = np.isnan(pairs_of(table, "label")).any(axis=2).ravel()
    assert lost.any()
    rule = Everything().fit(sketched([table]), Labelled(np.zeros(NUM, np.int64)), 0)
    assert rule.accepts(elements(table, "peak")).tolist() == (~lost).tolist()


# ---- selections


@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize("ranking", ["peak", "spread", "agreement", "consistency"])
def test_a_selection_from_many_shards_is_that_from_one(selector, ranking):
    table = predictions()
    whole = select([table], selector, ranking)
    for cuts in ([0, 20, 40], [0, 1, 7, 7, 30, 40]):
        shards = [table[a:b] for a, b in pairwise(cuts)]
        assert rows_of(select(shards, selector, ranking)) == rows_of(whole)


def test_a_share_is_taken_of_each_point_on_its_own():
    table = predictions()
    taken = select([table], ClassShare(share=0.5))
    per_point = (floats_of(taken, "weights") > 0).sum(axis=0)
    there = np.isfinite(pairs_of(table, "label")).all(axis=2).sum(axis=0)
    assert per_point.tolist() == np.ceil(there / 2).astype(int).tolist()


def test_rows_without_an_accepted_point_are_left_out():
    taken = select([predictions()], Threshold(threshold=0.8))
    assert 0 < taken.num_rows < 40
    assert (floats_of(taken, "weights") > 0).any(axis=1).all()


@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
def test_what_is_unknown_stays_unknown_and_never_becomes_a_corner(selector):
    table = predictions()
    taken = select([table], selector)
    targets, weights = pairs_of(taken, "target"), floats_of(taken, "weights")
    assert np.isnan(targets[weights == 0]).all()
    assert np.isfinite(targets[weights > 0]).all()
    told = dict(zip(table["example_id"].to_pylist(), pairs_of(table, "label"), strict=True))
    for name, points, weight in zip(taken["example_id"].to_pylist(), targets, weights, strict=True):
        assert np.array_equal(points[weight > 0], told[name][weight > 0])


def test_a_rows_weight_is_the_mean_of_its_accepted_points():
    table = bank({"a": [[[1, 1], [2, 2], [NAN, NAN]], [0.5, 1.0, 0]]})
    assert table["weight"].to_pylist() == [0.75]


def test_a_selection_of_nothing_is_an_empty_table():
    table = select([predictions()], Threshold(threshold=1.0))
    assert table.num_rows == 0
    assert table.schema.equals(SCHEMA)
    assert select([predictions(0)], Everything()).num_rows == 0


# ---- banks


def test_a_bank_keeps_its_points_and_takes_in_those_that_it_did_not_know():
    before = bank({"b": [[[1, 1], [NAN, NAN], [3, 3]], [1, 0, 0.5]]})
    new = bank({"b": [[[9, 9], [8, 8], [7, 7]], [1, 0.25, 1]], "a": [[[5, 5]] * 3, [1, 1, 1]]})
    both = merged(before, new, SCHEMA)
    assert both["example_id"].to_pylist() == ["a", "b"]
    assert pairs_of(both, "target")[1].tolist() == [[1, 1], [8, 8], [3, 3]]
    assert floats_of(both, "weights")[1].tolist() == [1, 0.25, 0.5]


def test_a_bank_with_nothing_new_stays_as_it_is():
    before = select([predictions()], ClassShare(share=0.5))
    before = before.sort_by("example_id").combine_chunks()
    for old, new in ((before, before), (before, before[:0]), (before[:0], before)):
        assert rows_of(merged(old, new, SCHEMA)) == rows_of(before)


def test_banks_of_many_shards_are_that_of_one():
    old, new = predictions(seed=0), predictions(seed=1)
    before, after = (select([t], ClassShare(share=0.4)) for t in (old, new))
    whole = merged(before, after, SCHEMA)
    first = {f"row-{i:02d}" for i in range(17)}

    def part(table: pa.Table, *, inside: bool) -> pa.Table:
        mask = [(name in first) == inside for name in table["example_id"].to_pylist()]
        return table.filter(pa.array(mask))

    parts = [merged(part(before, inside=i), part(after, inside=i), SCHEMA) for i in (True, False)]
    assert rows_of(pa.concat_tables(parts)) == rows_of(whole)
