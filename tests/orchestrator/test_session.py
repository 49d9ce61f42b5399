"""A session around a run: what is kept in its folder, and what the terminal hears."""

import json
import os
import sys

import pytest
import yaml

from orchestrator.console import Console, closing_lines
from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import prepare
from orchestrator.errors import DataError
from orchestrator.loading import load_config
from orchestrator.noise import native_noise_to
from orchestrator.tracking.tracker import read_events
from tests.orchestrator.helpers import play


@pytest.mark.slow
def test_the_resolved_config_kept_with_a_run_plays_the_same_run(make_config):
    config = make_config("recipe.seed=3")
    record = play(config)
    kept = load_config(config.runs / record.run / "config.yaml")
    assert kept.recipe == config.recipe
    assert play(kept).run == record.run


@pytest.mark.slow
def test_the_answer_for_machines_has_rounds_steps_and_metrics(make_config):
    answer = play(make_config()).answer()
    assert json.loads(json.dumps(answer)) == answer
    assert {"run", "best_round", "rounds"} <= answer.keys()
    for number, each in enumerate(answer["rounds"]):
        assert each["round"] == number
        assert isinstance(each["accepted"], int)
        assert all({"address", "from_store", "seconds"} <= s.keys() for s in each["steps"].values())
        assert all(isinstance(v, float) for v in each["validation"].values())
        assert 0 <= each["test"]["accuracy"] <= 1


@pytest.mark.slow
def test_the_event_log_tells_the_run_from_start_to_end(make_config):
    config = make_config()
    record = play(config)
    names = [e["event"] for e in read_events(config.runs / record.run)]
    assert names[0] == "run_started"
    assert names[-1] == "run_finished"
    assert names.count("step_started") == names.count("step_finished") == 10
    assert names.count("round_finished") == 2


def test_a_failed_run_says_so_in_its_log_and_record(make_config, tmp_path):
    data = tmp_path / "digits"
    spec = PrepareSpec(labelled_per_class=10, validation=200, test=450, seed=7)
    prepare("digits", data, spec)
    (data / "pool" / "part-00000.parquet").write_bytes(b"torn")
    config = make_config(data=data)
    with pytest.raises(DataError, match="was changed since it was prepared"):
        play(config)
    (folder,) = config.runs.iterdir()
    assert list(read_events(folder))[-1]["event"] == "run_failed"
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"


def test_native_noise_goes_to_the_file_and_python_still_reaches_the_terminal(tmp_path, capfd):
    with native_noise_to(tmp_path / "ray.log"):
        os.write(2, b"noise of native code\n")
        sys.stderr.write("a line for the user\n")
    sys.stderr.write("and afterwards\n")
    assert (tmp_path / "ray.log").read_text() == "noise of native code\n"
    assert capfd.readouterr().err == "a line for the user\nand afterwards\n"


@pytest.mark.slow
def test_plain_output_has_one_line_for_each_step_and_names_what_to_type_next(make_config, capfd):
    from orchestrator.session import play_run
    from orchestrator.signals import StopRequest

    with Console() as console:
        record, folder = play_run(make_config(), console, StopRequest())
    lines = capfd.readouterr().out.splitlines()
    told = [line.split()[2] for line in lines]
    steps = [word for word in told if word != "ALARM:"]
    assert steps == 2 * ["train", "score", "label", "select", "audit"]
    assert len(told) - len(steps) == sum(len(r.alarms) for r in record.rounds)
    closing = "\n".join(closing_lines(record))
    assert f"selftrain show {record.run}" in closing
    assert yaml.safe_load((folder / "config.yaml").read_text())["name"] == "quick"
