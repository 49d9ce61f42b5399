"""W&B as a projection: read back from its files, without a network."""

import pytest
import wandb

from orchestrator.runs import load_run
from orchestrator.tracking.tracker import Tracker, read_events
from orchestrator.tracking.wandb_projection import WandbProjection, replay, send
from tests.orchestrator.helpers import play
from tests.orchestrator.tracking.wandb_files import header, history, offline_files


@pytest.fixture
def run(make_config):
    """A finished run without W&B: its record and folder."""
    config = make_config()
    record = play(config)
    return record, config.runs / record.run


@pytest.mark.slow
def test_a_replay_is_one_clean_run_with_a_row_for_each_round(run, tmp_path):
    record, folder = run
    replay(record.run, record.config, folder, tmp_path / "again")
    (again,) = offline_files(tmp_path / "again")
    rounds = [row for row in history(again) if "validation/accuracy" in row]
    assert [row["round"] for row in rounds] == [0, 1]
    assert [row["test/accuracy"] for row in rounds] == [r.test["accuracy"] for r in record.rounds]
    assert [row["selection/accepted"] for row in rounds] == [r.accepted for r in record.rounds]


@pytest.mark.slow
def test_a_replay_holds_every_term_its_weight_thresholds_and_class_precision(run, tmp_path):
    record, folder = run
    replay(record.run, record.config, folder, tmp_path / "again")
    rows = history(offline_files(tmp_path / "again")[0])
    (last,) = [row for row in rows if row.get("round") == 1]
    each = record.rounds[1]
    assert last["loss/selected"] == pytest.approx(each.terms["selected"])
    assert last["loss_weight/selected"] == each.term_weights["selected"]
    assert last["selection/threshold/3"] == each.thresholds[3]
    assert last["selection/threshold"] == max(each.thresholds)
    assert last["selection/class_precision/3"] == pytest.approx(each.class_precision[3])
    assert last["selection/recall"] == pytest.approx(each.selection["recall"])
    steps = [row for row in rows if "train/step" in row]
    assert all("train/loss/labelled" in row for row in steps)
    assert steps


def test_what_training_steps_accept_reaches_wandb_over_steps_and_over_rounds():
    sent: list[dict] = []

    class Run:
        def log(self, values: dict) -> None:
            sent.append(values)

    told = {"accepted_share": 0.5, "not_finite": 0, "mean_confidence": None, "class_rows": [3, 1]}
    told |= {"thresholds": [0.9, 0.8, 2.0], "effect_mean": -0.5}
    scores = {"validation": {"score": 1.0}, "test": {"score": 1.0}}
    ended = {"event": "round_finished", "round": 0, "seconds": 1.0, "accepted": None}
    ended |= {
        "precision": None,
        "prior": (0.75, 0.25),
        "in_step": told,
        "terms": {"teacher_h": 0.1, "loss": None},
    }
    ended |= {"teacher_distance": 0.25, "teacher_disagreement": 0.5, "teacher_queue": None}
    step = {"event": "progress", "unit": "steps", "step_in_round": 5, "round": 0, "loss": 2.0}
    step |= {"images_per_s": 7.0, "loss/consistency_accepted": 0.5, "in_step/not_finite": 0.0}
    send(Run(), step)
    send(Run(), ended | scores)
    assert sent[0]["train/loss/consistency_accepted"] == 0.5
    assert sent[0]["train/in_step/not_finite"] == 0
    assert (sent[1]["in_step/accepted_share"], sent[1]["in_step/class/1"]) == (0.5, 1)
    assert sent[1]["in_step/threshold/1"] == 0.8
    assert sent[1]["in_step/threshold"] == 0.9, "no row reaches 2"
    assert sent[1]["in_step/effect_mean"] == -0.5
    assert sent[1]["selection/prior/1"] == 0.25
    assert (sent[1]["loss/teacher_h"], sent[1]["teacher/distance"]) == (0.1, 0.25)
    assert sent[1]["teacher/disagreement"] == 0.5
    assert not sent[1].keys() & {"in_step/mean_confidence", "loss/loss", "teacher/queue"}


@pytest.mark.slow
def test_rounds_that_were_logged_twice_count_once_in_a_replay(run, tmp_path):
    record, folder = run
    play(record.config)  # the same run again appends the same rounds to the log
    assert sum(e["event"] == "round_finished" for e in read_events(folder)) == 4
    replay(record.run, record.config, folder, tmp_path / "again")
    (again,) = offline_files(tmp_path / "again")
    rounds = [row for row in history(again) if "validation/accuracy" in row]
    assert [row["round"] for row in rounds] == [0, 1]


@pytest.mark.slow
def test_a_live_run_has_the_runs_own_id_its_group_and_its_config(run, tmp_path):
    record, folder = run
    projection = WandbProjection(record.run, record.config, tmp_path / "live", "offline")
    for event in read_events(folder):
        projection.hear(event)
    projection.close()
    wandb.teardown()  # the file is complete once wandb's service has ended
    (path,) = offline_files(tmp_path / "live")
    opened = header(path)
    assert (opened.run_id, opened.run_group, opened.job_type) == (record.run, "quick", "run")
    assert any(item.key == "recipe" for item in opened.config.update)


@pytest.mark.slow
def test_a_run_that_finds_everything_in_the_store_opens_no_wandb_run(run, tmp_path):
    record, _ = run
    projection = WandbProjection(record.run, record.config, tmp_path / "live", "offline")
    projection.hear({"event": "step_finished", "from_store": True})
    projection.close()
    assert not (tmp_path / "live").exists()


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_broken_wandb_never_ends_a_run(make_config, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_DIR", "/proc/nowhere")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    config = make_config("tracking.wandb=offline", "tracking.project=quick")
    record = play(config.model_copy(update={"tracking": config.tracking}))
    assert record.status == "finished"
    assert load_run(config.runs / record.run).status == "finished"
