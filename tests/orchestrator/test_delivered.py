"""A delivered student in a folder of its own says what it said in the run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.data.incoming import incoming
from orchestrator.delivered import CARD, WEIGHTS, Delivered, export, load_delivered
from orchestrator.errors import ConfigError, DataError, StoreError
from orchestrator.recipe import ScoringSpec
from orchestrator.store.store import Store
from tests.orchestrator.helpers import play, split_of, table_of
from trainables.tasks.task import task_of


def scores(student: Delivered, rows: pa.Table) -> dict[str, float]:
    return task_of(student.card.task).measure(rows, student.predict(rows))


def test_an_exported_student_scores_what_its_round_scored(played, student):
    loaded = load_delivered(student)
    delivered = played.rounds[played.best_round]
    assert scores(loaded, split_of(played, "test")) == delivered.test == loaded.card.test
    assert loaded.card.round == delivered.round


def test_it_says_of_the_pool_what_the_run_stored(played, student):
    found = load_delivered(student).predict(split_of(played, "pool")).sort_by("example_id")
    stored = table_of(
        played.config.store, "label", played.rounds[played.best_round].steps["label"].address
    )
    assert found["label"].to_pylist() == stored["label"].to_pylist()
    assert found["confidence"].to_numpy() == pytest.approx(
        stored["confidence"].to_numpy(), abs=1e-5
    )


def test_it_needs_neither_the_run_nor_its_store_nor_its_data(played, student, tmp_path):
    moved = shutil.move(student, tmp_path / "elsewhere")
    card = json.loads((Path(moved) / CARD).read_text())
    held = (Path(moved) / CARD).read_text()
    assert played.config.store not in held and played.config.data not in held
    assert sorted(p.name for p in Path(moved).iterdir()) == sorted([CARD, WEIGHTS])
    assert card["names"] == [str(i) for i in range(10)]
    rows = split_of(played, "test").select(["example_id", "image"])
    assert load_delivered(moved).predict(rows).num_rows == rows.num_rows


def test_each_row_has_the_name_of_its_class(played, student):
    found = load_delivered(student).predict(split_of(played, "test"))
    names = [played.classes[label] for label in found["label"].to_pylist()]
    assert found["name"].to_pylist() == names


def test_any_round_can_be_taken(played, tmp_path):
    card = export(played, tmp_path / "first", 0)
    assert card.test == played.rounds[0].test
    assert scores(load_delivered(tmp_path / "first"), split_of(played, "test")) == card.test


def test_a_round_that_was_not_played_is_refused_with_those_that_were(played, tmp_path):
    with pytest.raises(ConfigError, match="has no round 7; played: 0, 1"):
        export(played, tmp_path / "none", 7)
    assert not (tmp_path / "none").exists()


def test_rows_that_are_no_image_are_left_out_with_the_reason(student):
    rows = pa.table({"example_id": ["bad"], "image": [b"no image"]})
    told, refused = load_delivered(student).told(rows)
    assert told.num_rows == 0
    assert refused["example_id"].to_pylist() == ["bad"]


def test_views_and_flips_change_what_it_believes_and_keep_the_rows(played, student):
    loaded, rows = load_delivered(student), split_of(played, "test").slice(0, 50)
    plain, averaged = loaded.predict(rows), loaded.predict(rows, ScoringSpec(flips=True, views=3))
    assert averaged["example_id"] == plain["example_id"]
    assert not np.allclose(averaged["confidence"].to_numpy(), plain["confidence"].to_numpy())
    totals = np.exp(np.stack(averaged["log_probs"].to_numpy())).sum(axis=1)
    assert totals == pytest.approx(1.0, abs=1e-5)


def test_a_student_is_asked_as_it_was_scored_unless_told_otherwise(played, make_config, tmp_path):
    config = make_config("recipe.scoring={views: 3, flips: true}", "recipe.policy.num_rounds=1")
    shared = {"store": played.config.store}  # which holds the training
    record = play(config.model_copy(update=shared))
    export(record, tmp_path / "averaged")
    loaded, rows = load_delivered(tmp_path / "averaged"), split_of(record, "test")
    assert record.rounds[0].steps["train"] == played.rounds[0].steps["train"].model_copy(
        update={"from_store": True, "seconds": record.rounds[0].steps["train"].seconds}
    )
    assert scores(loaded, rows) == record.rounds[0].test
    as_it_is = task_of(loaded.card.task).measure(rows, loaded.predict(rows, ScoringSpec()))
    assert as_it_is == played.rounds[0].test != record.rounds[0].test


def test_weights_that_differ_from_the_card_are_refused(student):
    content = bytearray((student / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (student / WEIGHTS).write_bytes(content)
    with pytest.raises(StoreError, match="differs from its card: export the student again"):
        load_delivered(student)


def test_a_folder_without_a_student_is_refused_with_the_way_to_one(tmp_path):
    with pytest.raises(StoreError, match="selftrain export RUN --out FOLDER"):
        load_delivered(tmp_path)


def test_a_run_whose_weights_are_gone_is_no_student(played, tmp_path):
    kept = tmp_path / "store"
    shutil.copytree(played.config.store, kept)
    ref = played.rounds[0].steps["train"]
    (kept / "steps" / "train" / ref.address / "teacher.safetensors").unlink()
    config = played.config.model_copy(update={"store": str(kept)})
    with pytest.raises(StoreError, match="is missing"):
        export(played.model_copy(update={"config": config}), tmp_path / "student", 0)


def test_points_of_an_exported_landmark_student_are_those_that_were_scored(
    make_dots_config, tmp_path
):
    record = play(make_dots_config("recipe.scoring.views=2", method="landmark_supervised"))
    export(record, tmp_path / "student")
    loaded = load_delivered(tmp_path / "student")
    assert scores(loaded, split_of(record, "test")) == record.rounds[0].test
    assert loaded.card.names == Dataset(record.config.data).manifest.classes


def test_equal_images_in_several_files_have_names_of_their_own(tmp_path):
    for name in ("a", "b"):
        pq.write_table(pa.table({"image": [b"same", b"same"]}), tmp_path / f"{name}.parquet")
    (block,) = incoming(tmp_path)
    assert len(set(block["example_id"].to_pylist())) == 4


def test_a_student_of_features_says_what_it_needs(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="this student reads features"):
        incoming(tmp_path, features=8)
    pq.write_table(pa.table({"example_id": ["a"], "image": [b""]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="must hold 'example_id' and 'features' of 8 numbers"):
        list(incoming(tmp_path / "a.parquet", features=8))


def test_the_weights_hold_what_the_store_holds(played, student):
    store = Store(played.config.store)
    step = store.record("train", played.rounds[played.best_round].steps["train"].address)
    assert (student / WEIGHTS).read_bytes() == store.read(step, "teacher.safetensors")
