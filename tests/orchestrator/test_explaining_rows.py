"""What a run made of a pool row, round by round, against its own tables."""

import pytest

from orchestrator.errors import ConfigError
from orchestrator.explaining_rows import explain_row
from orchestrator.jobs.shards import shard_name
from orchestrator.runs import RunRecord
from orchestrator.store.store import Store
from tests.orchestrator.helpers import play, table_of


def table(record: RunRecord, round_: int, kind: str) -> dict[str, dict]:
    """A table of a round by example id."""
    address = record.rounds[round_].steps[kind].address
    rows = table_of(record.config.store, kind, address).to_pylist()
    return {row["example_id"]: row for row in rows}


def first_part(record: RunRecord, kind: str) -> dict[str, dict]:
    """The rows of the pool's first fragment in round 0."""
    store, address = Store(record.config.store), record.rounds[0].steps[kind].address
    rows = store.read_table(store.record(kind, address), shard_name(0)).to_pylist()
    return {row["example_id"]: row for row in rows}


def test_an_accepted_row_is_told_with_its_label_and_weight_and_its_hidden_label_last(played):
    told, taken = table(played, 0, "label"), table(played, 0, "select")
    name = next(iter(taken))
    lines = explain_row(played, name)
    said = f"{told[name]['label']} {told[name]['confidence']:.3f}, then"
    assert lines[0] == "chosen by selector class_share"
    assert lines[1].startswith(f"round 0  {said}")
    accepted = f"accepted as {taken[name]['label']}, weight {taken[name]['weight']:.3f}"
    assert lines[2] == f"round 0  {accepted}"
    assert lines[-1].startswith("hidden label, for reports alone: ")


def test_a_row_left_out_is_held_against_the_least_sure_accepted_one_of_its_class(played):
    told, taken = (first_part(played, kind) for kind in ("label", "select"))
    name = next(i for i in told if i not in taken)
    label = told[name]["label"]
    least = min(told[i]["confidence"] for i, row in taken.items() if row["label"] == label)
    expected = f"left out; the least sure accepted '{label}' of its fragment has {least:.3f}"
    assert explain_row(played, name)[2] == f"round 0  {expected}"


def test_every_round_that_selected_tells_of_the_row(played):
    selecting = [r.round for r in played.rounds if "select" in r.steps]
    lines = explain_row(played, next(iter(table(played, 0, "label"))))
    assert [f"round {r}" for r in selecting for _ in range(2)] == [
        line.split("  ")[0] for line in lines[1:-1]
    ]


def test_a_row_that_the_pool_does_not_hold_is_an_error_that_says_where_ids_stand(played):
    with pytest.raises(ConfigError, match="has no row 'nobody': ids stand in"):
        explain_row(played, "nobody")


@pytest.mark.slow
def test_a_row_that_a_filter_held_back_is_told_so_and_what_stands_between(make_config):
    record = play(
        make_config(
            "recipe.labelling.students=2",
            "recipe.filters=[{kind: agreement}, {kind: confidence, above: 0.15}]",
            "recipe.calibrators=[{kind: align}]",
            "recipe.selector={kind: everything}",
        )
    )
    address = record.rounds[0].steps["combine"].address
    told = table_of(record.config.store, "label", address).to_pylist()
    apart = next(row for row in told if row["agreement"] < 1 and row["confidence"] > 0.15)
    lines = explain_row(record, apart["example_id"])
    between = "chosen by filters agreement, confidence; calibrators align; selector everything"
    assert lines[0] == between
    assert "50% of its sources agree" in lines[1]
    assert lines[3] == "round 0  held back by filter agreement"


@pytest.mark.slow
def test_a_run_that_never_selected_has_nothing_to_say(make_config):
    record = play(make_config("recipe.policy={num_rounds: 1, label_last: false}"))
    with pytest.raises(ConfigError, match="has not selected from the pool yet"):
        explain_row(record, "row")
