"""W&B as a projection: read back from its files, without a network."""

import json
import struct
from pathlib import Path

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from orchestrator.runs import load_run
from orchestrator.tracking.tracker import Tracker, read_events
from orchestrator.tracking.wandb_projection import WandbProjection, replay
from tests.orchestrator.helpers import play

BLOCK, HEADER, PREAMBLE = 32 * 1024, 7, 7


def records(folder: Path) -> list:
    """The records of the only offline run below a folder.

    The file is a LevelDB log: a preamble, then blocks of 32 KiB of fragments with a header of
    checksum (4), length (2) and type (1: whole, 2: first, 3: middle, 4: last).
    """
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content, at, found, parts = path.read_bytes(), PREAMBLE, [], b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        if kind == 0:
            break
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def history(folder: Path) -> list[dict]:
    """The logged rows of a run."""
    rows = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append(
                {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in items}
            )
    return rows


@pytest.fixture
def run(make_config):
    """A finished run without W&B: its record and folder."""
    config = make_config()
    record = play(config)
    return record, config.runs / record.run


def test_a_replay_is_one_clean_run_with_a_row_for_each_round(run, tmp_path):
    record, folder = run
    replay(record.run, record.config, folder, tmp_path / "again")
    rounds = [row for row in history(tmp_path / "again") if "validation/accuracy" in row]
    assert [row["round"] for row in rounds] == [0, 1]
    assert [row["test/accuracy"] for row in rounds] == [r.test["accuracy"] for r in record.rounds]
    assert [row["selection/accepted"] for row in rounds] == [r.accepted for r in record.rounds]


def test_rounds_that_were_logged_twice_count_once_in_a_replay(run, tmp_path):
    record, folder = run
    play(record.config)  # the same run again appends the same rounds to the log
    assert sum(e["event"] == "round_finished" for e in read_events(folder)) == 4
    replay(record.run, record.config, folder, tmp_path / "again")
    rounds = [row for row in history(tmp_path / "again") if "validation/accuracy" in row]
    assert [row["round"] for row in rounds] == [0, 1]


def test_a_live_run_has_the_runs_own_id_its_group_and_its_config(run, tmp_path):
    record, folder = run
    projection = WandbProjection(record.run, record.config, tmp_path / "live", "offline")
    for event in read_events(folder):
        projection.hear(event)
    projection.close()
    wandb.teardown()  # the file is complete once wandb's service has ended
    (header,) = [r.run for r in records(tmp_path / "live") if r.WhichOneof("record_type") == "run"]
    assert (header.run_id, header.run_group, header.job_type) == (record.run, "quick", "run")
    assert any(item.key == "recipe" for item in header.config.update)


def test_a_run_that_finds_everything_in_the_store_opens_no_wandb_run(run, tmp_path):
    record, _ = run
    projection = WandbProjection(record.run, record.config, tmp_path / "live", "offline")
    projection.hear({"event": "step_finished", "from_store": True})
    projection.close()
    assert not (tmp_path / "live").exists()


def test_secrets_reach_no_file_of_a_run(make_config, tmp_path, monkeypatch):
    """A canary in the environment, in a tag and in a URI is found in nothing that is written."""
    canary = "canary-5b1d9e77c0"
    monkeypatch.setenv("WANDB_API_KEY", canary + "0" * 24)
    monkeypatch.setenv("SOME_SERVICE_TOKEN", canary)
    config = make_config("tracking.wandb=offline", f"tracking.tags=[{canary}]")
    tracker = Tracker(tmp_path / "other", [])
    tracker.emit("run_failed", error=f"can't reach s3://user:{canary}x@bucket/path")
    tracker.close()
    play(config)
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) > 20
    assert [p for p in written if canary.encode() in p.read_bytes()] == []


def test_a_broken_wandb_never_ends_a_run(make_config, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_DIR", "/proc/nowhere")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    config = make_config("tracking.wandb=offline", "tracking.project=quick")
    record = play(config.model_copy(update={"tracking": config.tracking}))
    assert record.status == "finished"
    assert load_run(config.runs / record.run).status == "finished"
