"""`selftrain export` and `selftrain predict`: a student is taken along and asked."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.orchestrator.helpers import split_of


@pytest.mark.slow
def test_the_commands_take_a_student_along_and_ask_it(selftrain, played, digits, tmp_path, capsys):
    assert selftrain("export", played.run, "--runs", played.config.runs, "--out", "student") == 0
    assert f"the student of round {played.best_round} of {played.run}" in capsys.readouterr().out
    asked = ("predict", "student", digits / "test.parquet", "--out", "answer.parquet", "--json")
    assert selftrain(*asked) == 0
    assert json.loads(capsys.readouterr().out) == {
        "out": "answer.parquet",
        "rows": 450,
        "refused": 0,
    }
    truth = split_of(played, "test")
    told = pq.read_table(tmp_path / "answer.parquet")
    right = np.mean(np.array(told["label"]) == np.array(truth["label"]))
    assert right == pytest.approx(played.rounds[played.best_round].test["accuracy"])


def test_a_folder_of_images_is_asked_by_path_and_broken_ones_stand_apart(
    selftrain, student, played, tmp_path, capsys
):
    rows = split_of(played, "test").slice(0, 3).to_pylist()
    (tmp_path / "new" / "deep").mkdir(parents=True)
    for row, name in zip(rows, ("a.png", "deep/b.png", ".hidden.png"), strict=True):
        (tmp_path / "new" / name).write_bytes(row["image"])
    (tmp_path / "new" / "c.jpg").write_bytes(b"broken")
    (tmp_path / "new" / "notes.txt").write_text("no image by name")
    assert selftrain("predict", student, "new", "--out", "answer.parquet") == 0
    assert "2 rows; 1 could not be read, see answer.refused.parquet" in capsys.readouterr().out
    told = pq.read_table(tmp_path / "answer.parquet")
    assert told["example_id"].to_pylist() == ["a.png", "deep/b.png"]
    refused = pq.read_table(tmp_path / "answer.refused.parquet")
    assert refused["example_id"].to_pylist() == ["c.jpg"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [("nowhere", "no such file or folder"), ("empty", "there is no row to predict")],
)
def test_nothing_to_predict_is_an_error_and_leaves_no_file(
    selftrain, student, tmp_path, capsys, rows, said
):
    (tmp_path / "empty").mkdir()
    assert selftrain("predict", student, rows, "--out", "answer.parquet") != 0
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*answer*"))


def test_an_answer_that_breaks_off_leaves_nothing_and_an_older_one_stays(
    selftrain, student, played, tmp_path, capsys
):
    new = tmp_path / "new"
    new.mkdir()
    pq.write_table(split_of(played, "test").slice(0, 3), new / "a.parquet")
    asked = ("predict", student, new, "--out", "deep/answer.parquet")
    assert selftrain(*asked) == 0
    (tmp_path / "deep" / "answer.refused.parquet").write_bytes(b"of an older command")
    (new / "b.parquet").write_bytes((new / "a.parquet").read_bytes()[:-20])
    before = (tmp_path / "deep" / "answer.parquet").read_bytes()
    assert selftrain(*asked) == 4
    assert "b.parquet can't be read as Parquet" in capsys.readouterr().err
    assert (tmp_path / "deep" / "answer.parquet").read_bytes() == before
    (new / "b.parquet").unlink()
    assert selftrain(*asked) == 0
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["answer.parquet"]
