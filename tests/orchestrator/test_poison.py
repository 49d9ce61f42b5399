"""Pools and selections that hold nothing, or one class only: runs go on, or end and say why."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.dataset import MANIFEST, Dataset, Split
from orchestrator.errors import DataError
from orchestrator.store.store import Store, entry_of
from tests.orchestrator.helpers import play, table_of
from tests.orchestrator.small_runs import pool_ids, prepare_small, small_config
from trainables import schemas


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A small data set: 97 pool rows in fragments of 49 and 48."""
    return prepare_small(tmp_path_factory.mktemp("small") / "data")


@pytest.fixture
def data(sound, tmp_path) -> Path:
    """A copy of it, to be harmed."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def change_fragment(data: Path, number: int, change, split: str = "pool") -> list[str]:
    """Give a fragment of a split other rows; the ids that it had."""
    manifest = Dataset(data).manifest
    files = list(getattr(manifest, split).files)
    path = data / files[number].name
    before = pq.read_table(path)
    after = change(before)
    pq.write_table(after, path)
    files[number] = entry_of(files[number].name, path.read_bytes(), after.num_rows)
    changed = manifest.model_copy(update={split: Split(files=tuple(files))})
    (data / MANIFEST).write_text(changed.model_dump_json())
    return before["example_id"].to_pylist()


def without_images(rows: pa.Table) -> pa.Table:
    """The same rows, none of which is an image."""
    images = pa.array([b"no image"] * rows.num_rows, pa.binary())
    return pa.table([rows["example_id"], images], schema=schemas.pool())


@pytest.mark.slow
def test_a_shard_of_which_no_row_is_an_image_is_refused_row_by_row(data, tmp_path):
    bad = change_fragment(data, 1, without_images)
    config = small_config(data, tmp_path / "run", "placement.most_refused_share=0.6")
    record = play(config)
    store = Store(config.store)
    for each in record.rounds:
        label = store.record("label", each.steps["label"].address)
        refused = store.read_table(label, "refused.parquet")["example_id"].to_pylist()
        found = table_of(config.store, "label", label.address)["example_id"].to_pylist()
        assert sorted(refused) == sorted(bad)
        assert sorted(found + refused) == pool_ids(data)
        chosen = table_of(config.store, "select", each.steps["select"].address)
        assert 0 < chosen.num_rows < len(found)


@pytest.mark.slow
def test_a_shard_without_rows_changes_nothing_for_the_others(data, tmp_path):
    change_fragment(data, 0, lambda rows: rows.slice(0, 0))
    config = small_config(data, tmp_path / "run")
    record = play(config)
    for each in record.rounds:
        found = table_of(config.store, "label", each.steps["label"].address)
        assert found["example_id"].to_pylist() == pool_ids(data)
        assert each.accepted is not None and each.accepted > 0


def test_a_pool_without_a_single_row_left_ends_the_run_and_says_so(data, tmp_path):
    for number in (0, 1):
        change_fragment(data, number, lambda rows: rows.slice(0, 0))
    record = play(small_config(data, tmp_path / "run"))
    assert len(record.rounds) == 1
    assert record.stopped is not None and record.stopped.startswith("the selection is empty")


@pytest.mark.slow
def test_a_selection_of_one_class_is_trained_on_and_raises_an_alarm(data, tmp_path):
    config = small_config(
        data,
        tmp_path / "run",
        "recipe.student.norm=batch",  # so young that it says one class of everything
        "recipe.training.steps={first_round: 3, base: 3}",
    )
    record = play(config)
    assert record.status == "finished"
    first, last = record.rounds
    assert sum(rows > 0 for rows in first.class_rows) == 1
    assert any("of the selection, more than" in alarm for alarm in first.alarms)
    trained = Store(config.store).record("train", last.steps["train"].address)
    assert trained.counts["selected_rows"] == first.accepted


def doubled(rows: pa.Table) -> pa.Table:
    """The same rows, the second with the id of the first."""
    ids = rows["example_id"].to_pylist()
    return rows.set_column(0, rows.field(0), pa.array([ids[0], ids[0], *ids[2:]]))


@pytest.mark.parametrize("split", ["pool", "labelled", "validation"])
def test_an_id_that_stands_twice_is_refused_by_name(data, tmp_path, split):
    ids = change_fragment(data, 0, doubled, split)
    with pytest.raises(DataError, match=f"{split}.*holds the id '{ids[0]}' 2 times"):
        play(small_config(data, tmp_path / "run"))


@pytest.mark.parametrize("split", ["labelled", "validation"])
@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_outside_the_classes_is_refused_with_its_row(data, tmp_path, split, label):
    def mislabelled(rows: pa.Table) -> pa.Table:
        at = rows.schema.get_field_index("label")
        labels = rows["label"].to_pylist()
        labels[3] = label
        return rows.set_column(at, rows.field(at), pa.array(labels, pa.int32()))

    change_fragment(data, 0, mislabelled, split)
    with pytest.raises(DataError, match=rf"{split}.* row 3 has the label {label}: labels are 0 to"):
        play(small_config(data, tmp_path / "run"))
