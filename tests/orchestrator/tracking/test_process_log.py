"""Logs for machines: whole lines of JSON, spans inside spans, no secrets, never in the way."""

import json
import logging
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.tracking.log_projection import LogProjection
from orchestrator.tracking.process_log import (
    begin_span,
    carried,
    end_span,
    joined,
    open_log,
    span,
    tell,
)
from tests.orchestrator.helpers import play


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted((folder / "logs").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_a_line_says_when_where_and_by_whom_it_was_written(tmp_path):
    with open_log(tmp_path, "a-run"), span("step", round=1, step="train", address="abc"):
        tell("halfway", rows=3)
    (name,) = (p.name for p in (tmp_path / "logs").iterdir())
    assert name == f"{socket.gethostname()}-{os.getpid()}.jsonl"
    began, halfway, ended = lines(tmp_path)
    assert halfway["message"] == "halfway"
    assert halfway["time"].endswith("+00:00")
    assert halfway["level"] == "INFO"
    assert halfway["pid"] == os.getpid()
    known = {"run": "a-run", "round": 1, "step": "train", "address": "abc", "rows": 3}
    assert known.items() <= halfway.items()
    assert began["span"] == halfway["span"] == ended["span"]
    assert ended["seconds"] >= 0


def test_a_span_inside_another_names_it_as_its_parent(tmp_path):
    with open_log(tmp_path, "r"), span("round", round=0), span("step", step="label"):
        tell("inside")
    outer, inner, inside, *_ = lines(tmp_path)
    assert outer["parent"] is None
    assert inner["parent"] == outer["span"]
    assert (inside["span"], inside["round"], inside["step"]) == (inner["span"], 0, "label")


def test_a_span_that_fails_says_why_and_the_error_goes_on(tmp_path):
    with open_log(tmp_path, "r"), pytest.raises(ConfigError), span("step"):
        raise ConfigError("no such field")
    assert lines(tmp_path)[-1]["error"] == "ConfigError: no such field"
    assert lines(tmp_path)[-1]["level"] == "ERROR"


def test_another_process_goes_on_inside_the_span_that_was_carried_to_it(tmp_path):
    with open_log(tmp_path, "r"), span("step", step="train"):
        told = json.loads(json.dumps(carried()))

    def worker() -> None:
        with joined(told), span("work", rank=1):
            pass

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    step, *_, work = lines(tmp_path)
    assert work["parent"] == step["span"]
    assert (work["run"], work["step"], work["rank"]) == ("r", "train", 1)


def test_warnings_of_ours_are_written_too_from_any_thread(tmp_path):
    log = logging.getLogger("orchestrator.store.lease")
    with open_log(tmp_path, "r"):
        thread = threading.Thread(target=log.warning, args=("the lease of %s is gone", "x"))
        thread.start()
        thread.join()
    log.warning("afterwards")
    (line,) = lines(tmp_path)
    assert (line["message"], line["run"]) == ("the lease of x is gone", "r")


def test_no_secret_reaches_a_log(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "canary-0123456789")
    with open_log(tmp_path, "r"):
        opened = begin_span("canary-0123456789")
        tell("s3://user:canary-password@bucket", note=["canary-0123456789"])
        end_span(opened, "OSError: s3://user:canary-password@bucket is away")
    (path,) = (tmp_path / "logs").iterdir()
    assert "canary" not in path.read_text()
    assert len(lines(tmp_path)) == 3


@pytest.mark.parametrize("told", [{}, {"folder": "/nowhere/at/all", "where": {"run": "r"}}])
def test_a_process_that_can_not_see_the_run_writes_nothing_and_works(told):
    with joined(told), span("work"):
        assert carried() == {}
        tell("unheard")
    assert not Path("/nowhere").exists()


def test_a_log_that_can_not_be_written_ends_no_work(tmp_path):
    (tmp_path / "logs").write_text("a file where the folder should be")
    with open_log(tmp_path, "r"), span("work"):
        tell("unheard")


@pytest.mark.slow
def test_a_run_logs_rounds_and_steps_as_spans_with_their_seconds(make_config):
    config = make_config()
    record = play(config)
    found = lines(config.runs / record.run)
    ends = [line for line in found if line.get("event") == "end"]
    assert [line["name"] for line in ends] == (5 * ["step"] + ["round"]) * 2 + ["run"]
    by_span = {line["span"]: line for line in found if line.get("event") == "start"}
    run = ends[-1]["span"]
    for line in ends[:-1]:
        above = by_span[line["parent"]]
        assert above["name"] == ("round" if line["name"] == "step" else "run")
        assert by_span[run]["run"] == line["run"] == record.run
    trained = next(line for line in ends if line.get("step") == "train")
    assert trained["address"] == record.rounds[0].steps["train"].address


def test_spans_that_were_never_closed_end_with_the_one_around_them(tmp_path):
    with open_log(tmp_path, "r"):
        log = LogProjection()
        for event in ({"event": "run_started"}, {"event": "step_started", "step": "train"}):
            log.hear(event)
        log.hear({"event": "run_failed", "error": "OSError: disk full"})
        log.hear({"event": "step_finished"})
        log.close()
    *_, step, run = lines(tmp_path)
    assert (step["name"], step["error"]) == ("step", "OSError: disk full")
    assert (run["name"], run["error"]) == ("run", "OSError: disk full")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_training_workers_and_labelling_actors_write_logs_of_their_own(make_config):
    config = make_config(
        "recipe.policy={num_rounds: 1, label_last: true}",
        "placement.engine=ray",
        "placement.train_workers=1",
        "placement.label_actors=1",
    )
    record = play(config)
    found = lines(config.runs / record.run)
    steps = {
        line["span"]: line
        for line in found
        if line.get("event") == "start" and line["name"] == "step"
    }
    work = [line for line in found if line.get("event") == "end" and line["name"] == "work"]
    driver = {line["pid"] for line in found if line["name"] == "step"}
    assert driver == {os.getpid()}
    assert {line["work"] for line in work} == {"train", "label"}
    assert sorted(line["fragment"] for line in work if line["work"] == "label") == [0, 1, 2, 3, 4]
    for line in work:
        assert line["pid"] not in driver
        step = steps[line["parent"]]
        assert (line["run"], line["round"], line["address"]) == (record.run, 0, step["address"])
        assert line["work"] == step["kind"]
