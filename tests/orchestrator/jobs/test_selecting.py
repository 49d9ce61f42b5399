"""Selecting: rows that no class took go to classes that are short of them."""

import numpy as np
import pytest

from orchestrator.store.store import Store
from tests.orchestrator.helpers import play, table_of
from tests.orchestrator.label_sources import believed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("weight", ["one", "inverse_class"])
def test_a_filled_selection_has_as_many_rows_of_each_class_as_were_asked_for(make_config, weight):
    settings = ("recipe.policy.num_rounds=1", f"recipe.targets.weight={{kind: {weight}}}")
    config = make_config("recipe.selector={kind: class_top_k, k: 100, fill: true}", *settings)
    plain = make_config("recipe.selector={kind: class_top_k, k: 100}", *settings)
    record, before = play(config), play(plain)
    told = believed(config, record, 0, "label")
    step = record.rounds[0].steps["select"].address
    table = table_of(config.store, "select", step)
    rows = dict(zip(table["example_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert Store(config.store).record("select", step).counts["class_rows"] == [100] * 10
    own = table_of(plain.store, "select", before.rounds[0].steps["select"].address)
    names, labels = own["example_id"].to_pylist(), own["label"].to_pylist()
    assert len(names) < 1000, "some class was predicted of fewer than 100 rows"
    assert {name: rows[name] for name in names} == dict(zip(names, labels, strict=True))
    moved = [(told.example_ids.index(name), rows[name]) for name in rows.keys() - set(names)]
    assert len(moved) == 1000 - len(names)
    assert all(told.labels[at] != label for at, label in moved)
    for label in {label for _, label in moved}:
        least = min(told.log_probs[at, label] for at, each in moved if each == label)
        left = [at for at, name in enumerate(told.example_ids) if name not in rows]
        assert told.log_probs[left, label].max() <= least
    if weight == "inverse_class":
        assert np.unique(table["weight"].to_numpy()).tolist() == [1.0]
