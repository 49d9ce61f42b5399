"""The event log is whole lines, survives torn ones, and never lets a projection end a run."""

import json
import logging
from pathlib import Path

import pytest

from orchestrator.errors import StorageFullError
from orchestrator.tracking.tracker import EVENTS, Event, Tracker, read_events


class Diary:
    """A projection that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.closed = False

    def hear(self, event: Event) -> None:
        self.heard.append(event["event"])

    def close(self) -> None:
        self.closed = True


class Broken:
    """A projection that can't do anything."""

    def __init__(self) -> None:
        self.asked = 0

    def hear(self, event: Event) -> None:
        self.asked += 1
        raise RuntimeError(f"can't show {event['event']} with canary-secret")

    def close(self) -> None:
        raise RuntimeError("can't close")


def names(folder) -> list[str]:
    return [event["event"] for event in read_events(folder)]


def test_events_are_read_back_in_order_with_their_fields_and_times(tmp_path):
    tracker = Tracker(tmp_path, [])
    tracker.emit("run_started", run="a")
    tracker.emit("round_started", round=0)
    tracker.close()
    first, second = read_events(tmp_path)
    assert (first["event"], first["run"]) == ("run_started", "a")
    assert (second["event"], second["round"]) == ("round_started", 0)
    assert first["time"] <= second["time"]
    assert first["time"].endswith("+00:00")


def test_an_event_is_in_the_log_before_the_tracker_is_closed(tmp_path):
    tracker = Tracker(tmp_path, [])
    tracker.emit("run_started")
    assert names(tmp_path) == ["run_started"]
    tracker.close()


def test_a_log_without_room_ends_the_run_with_what_to_do_(tmp_path):
    Path(tmp_path / EVENTS).symlink_to("/dev/full")
    tracker = Tracker(tmp_path, [])
    with pytest.raises(StorageFullError, match=rf"{EVENTS} failed: No space .*; make room"):
        tracker.emit("run_started")
    tracker.close()


def test_opening_the_log_again_appends(tmp_path):
    for name in ("first", "second"):
        tracker = Tracker(tmp_path, [])
        tracker.emit(name)
        tracker.close()
    assert names(tmp_path) == ["first", "second"]


@pytest.mark.parametrize(
    "torn", [b'{"event": "half', b"\xff\xfe\x00", b"3", b'{"time": 1}', b"\x00"]
)
def test_a_torn_last_line_is_skipped_and_closed(tmp_path, torn):
    tracker = Tracker(tmp_path, [])
    tracker.emit("before")
    tracker.close()
    path = tmp_path / EVENTS
    path.write_bytes(path.read_bytes() + torn)
    assert names(tmp_path) == ["before"]
    tracker = Tracker(tmp_path, [])
    tracker.emit("after")
    tracker.close()
    assert names(tmp_path) == ["before", "after"]
    assert path.read_bytes().endswith(b"}\n")
    assert path.read_bytes().count(b"\n") == 3


def test_a_folder_without_a_log_has_no_events(tmp_path):
    assert names(tmp_path) == []


def test_projections_hear_every_event_and_are_closed(tmp_path):
    one, late = Diary(), Diary()
    tracker = Tracker(tmp_path, [one])
    tracker.emit("a")
    tracker.add(late)
    tracker.emit("b")
    tracker.close()
    assert (one.heard, late.heard) == (["a", "b"], ["b"])
    assert one.closed
    assert late.closed


def test_a_projection_that_raises_is_dropped_and_the_run_goes_on(tmp_path, caplog):
    broken, diary = Broken(), Diary()
    tracker = Tracker(tmp_path, [broken, diary])
    with caplog.at_level(logging.WARNING):
        tracker.emit("a")
        tracker.emit("b")
    tracker.close()
    assert broken.asked == 1
    assert diary.heard == ["a", "b"]
    assert names(tmp_path) == ["a", "b"]
    assert "Broken stopped: can't show a" in caplog.text


def test_a_projection_that_can_not_be_closed_holds_up_no_other(tmp_path, caplog):
    diary = Diary()
    tracker = Tracker(tmp_path, [Broken(), diary])
    with caplog.at_level(logging.WARNING):
        tracker.close()
    assert diary.closed
    assert "Broken: can't close" in caplog.text


def test_warnings_about_projections_hold_no_secret(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "canary-secret")
    tracker = Tracker(tmp_path, [Broken()])
    with caplog.at_level(logging.WARNING):
        tracker.emit("a")
    tracker.close()
    assert "Broken stopped" in caplog.text
    assert "canary-secret" not in caplog.text


def test_secrets_reach_neither_the_log_nor_a_projection(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "canary-0123456789")
    heard: list[str] = []

    class Listener(Diary):
        def hear(self, event: Event) -> None:
            heard.append(json.dumps(event))

    tracker = Tracker(tmp_path, [Listener()])
    config = {"store": "s3://user:canary-password@bucket/x", "note": "key canary-0123456789"}
    tracker.emit("run_started", config=config, tags=["canary-0123456789"])
    tracker.emit("run_failed", error="OSError: s3://user:canary-password@bucket is away")
    tracker.close()
    for text in ((tmp_path / EVENTS).read_text(), "".join(heard)):
        assert "run_failed" in text
        assert "canary" not in text
