"""The CSV file of rounds: one line a round, written anew after each."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.reporting import REPORTED
from orchestrator.runs import RoundRecord
from orchestrator.tracking.csv_projection import COLUMNS, FILE, CsvProjection
from trainables.step_tally import InStep


def finished(number: int, score: float = 0.5, **fields: Any) -> dict[str, Any]:
    return {
        "event": "round_finished",
        "round": number,
        "kept": True,
        "reason": "kept",
        "accepted": 10,
        "precision": None,
        "validation": {"score": score, "rows": 3},
        "test": {"score": score / 2},
        "seconds": 1.5,
        "steps": {},
    } | fields


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / FILE).open(newline="") as source:
        return list(csv.DictReader(source))


@pytest.fixture
def projection(tmp_path) -> CsvProjection:
    return CsvProjection(tmp_path)


def test_every_finished_round_is_a_line_with_the_declared_columns(tmp_path, projection):
    projection.hear(finished(0))
    projection.hear(finished(1, 0.75, precision=0.9))
    first, second = lines(tmp_path)
    assert tuple(first) == COLUMNS
    assert (first["validation_score"], first["test_score"]) == ("0.5", "0.25")
    assert (first["precision"], second["precision"]) == ("", "0.9")


def test_every_field_of_a_round_has_a_column():
    parts = {"steps", "selection", "in_step"}
    assert set(RoundRecord.model_fields) - parts <= set(COLUMNS)
    assert {f"step_{name}" for name in InStep.model_fields} <= set(COLUMNS)
    assert set(REPORTED) <= set(COLUMNS)


def test_what_selections_and_training_steps_accepted_stands_in_columns_of_its_own(
    tmp_path, projection
):
    steps = {"accepted_share": 0.25, "mean_confidence": 0.5, "not_finite": 3, "class_rows": [1]}
    chosen = {"coverage": 0.75, "flip_rate": None}
    terms, alarms = {"loss": 1.5, "labelled": 1.0}, ["class 1 holds all"]
    projection.hear(finished(0, in_step=steps, selection=chosen, terms=terms, alarms=alarms))
    projection.hear(finished(1, in_step=None, thresholds=(0.5, 0.25), alarms=()))
    first, second = lines(tmp_path)
    told = ("coverage", "step_accepted_share", "step_not_finite", "loss")
    assert [first[name] for name in told] == ["0.75", "0.25", "3", "1.5"]
    assert [second[name] for name in told] == ["", "", "", ""]
    assert json.loads(first["alarms"]) == alarms
    assert json.loads(first["terms"]) == terms
    assert json.loads(first["step_class_rows"]) == [1]
    assert json.loads(second["thresholds"]) == [0.5, 0.25]
    assert second["alarms"] == ""


def test_a_round_that_is_played_again_replaces_its_line(tmp_path, projection):
    for score in (0.5, 0.75):
        projection.hear({"event": "run_started"})
        projection.hear(finished(0, score))
    projection.hear(finished(0, 0.875))
    (line,) = lines(tmp_path)
    assert line["validation_score"] == "0.875"


def test_a_shorter_run_leaves_no_lines_of_a_longer_one(tmp_path, projection):
    for number in range(3):
        projection.hear(finished(number))
    projection.hear({"event": "run_started"})
    projection.hear(finished(0))
    assert len(lines(tmp_path)) == 1


def test_a_reason_with_commas_and_quotes_stays_one_cell(tmp_path, projection):
    projection.hear(finished(0, reason='rolled back: "0.5", below'))
    assert lines(tmp_path)[0]["reason"] == 'rolled back: "0.5", below'


def test_other_events_write_nothing(tmp_path, projection):
    projection.hear({"event": "step_finished", "round": 0})
    projection.close()
    assert not (tmp_path / FILE).exists()
