"""`selftrain sweep` and what `plan`, `show` and `store gc` know of sweeps."""

import json

import pytest

from orchestrator.cli.sweep_commands import seconds_of
from orchestrator.errors import ConfigError
from tests.orchestrator.sweep.test_session import config_in


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800)]
)
def test_durations_have_units(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "0s", "-5m", "5 weeks"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="must be a number and a unit, such as 90s"):
        seconds_of(text)


@pytest.mark.slow
def test_a_sweep_is_planned_played_shown_and_its_steps_are_kept(
    selftrain,
    write,
    capsys,
    tmp_path,
    digits,
):
    config = write(config_in(tmp_path, digits, trials=None))
    options = ("--trials", "2", "--json")
    assert selftrain("plan", config, "--set", "sweep.trials=2", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert selftrain("sweep", config, *options) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [place["trial"] for place in sorted(answer["places"], key=lambda p: p["trial"])] == [
        0,
        1,
    ]
    assert plan["trials"] == 2
    assert selftrain("show", answer["sweep"][:12], "--runs", tmp_path / "runs", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["places"] == answer["places"]
    store = ("--store", tmp_path / "store")
    assert selftrain("store", "gc", *store, "--runs", tmp_path / "runs", "--dry-run") == 0
    assert "0 folders" in capsys.readouterr().out
    assert selftrain("sweep", config, *options) == 0
    assert json.loads(capsys.readouterr().out)["places"] == answer["places"]


def test_faults_of_a_space_exit_with_2_before_anything_starts(
    selftrain,
    write,
    capsys,
    tmp_path,
    digits,
):
    config = write(
        config_in(tmp_path, digits, space={"recipe.selector.shard": {"low": 0, "high": 1}})
    )
    assert selftrain("sweep", config) == 2
    assert "did you mean 'share'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
