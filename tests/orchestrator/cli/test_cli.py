"""The command line: what it prints, what it leaves alone, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orchestrator.methods import method_names
from orchestrator.store.store import Identity, Outcome, StepFolder, Store
from tests.orchestrator.helpers import play, table_of

ROOT = Path(__file__).parents[3]
IDENTITIES = [Identity("train", 1, {"rate": rate}, {}) for rate in (0.1, 0.2)]


def work(folder: StepFolder) -> Outcome:
    return Outcome((folder.write("a.bin", b"content"),))


@pytest.fixture
def store(tmp_path) -> Store:
    """A store of two finished steps and one that was never finished."""
    opened = Store(tmp_path / "store")
    for identity in IDENTITIES:
        opened.once(identity, work, told=print)
    opened.folder("label", "f" * 24).write("half.bin", b"half")
    return opened


def finished(store: Store) -> set[str]:
    return {address for _, address, done in store.steps() if done}


# errors and exit codes


def test_a_config_that_is_not_there_exits_with_2_and_one_message(selftrain, capsys):
    assert selftrain("run", "none.yaml") == 2
    assert capsys.readouterr().err == "none.yaml: No such file or directory\n"


def test_a_config_with_faults_exits_with_2_and_lists_them_all(selftrain, capsys, tmp_path):
    (tmp_path / "a.yaml").write_text("data: d\nrecipe: {sede: 1, policy: {num_rounds: 0}}\n")
    assert selftrain("plan", "a.yaml", "--set", "placement.retries=-1") == 2
    said = capsys.readouterr().err
    assert "a.yaml: 3 faults" in said
    assert "did you mean 'seed'" in said


def test_an_unknown_source_exits_with_2(selftrain, capsys):
    assert selftrain("prepare", "digit", "--out", "d") == 2
    assert "did you mean 'digits'" in capsys.readouterr().err


def test_missing_data_exit_with_4_and_say_how_to_make_them(selftrain, capsys, tmp_path):
    (tmp_path / "a.yaml").write_text("data: nowhere\n")
    assert selftrain("run", "a.yaml") == 4
    assert "selftrain prepare SOURCE --out nowhere" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["a.yaml"]


def test_a_source_with_too_few_rows_exits_with_4(selftrain, capsys):
    assert selftrain("prepare", "digits", "--out", "d", "--labelled-per-class", 1000) == 4
    assert "too few labelled rows" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("frobnicate",), ("run",), ("prepare", "digits")])
def test_a_command_that_can_not_be_read_exits_with_2(selftrain, capsys, arguments):
    assert selftrain(*arguments) == 2
    assert "selftrain" in capsys.readouterr().err


def test_messages_hold_no_secret(selftrain, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "canary-0123456789")
    assert selftrain("run", "canary-0123456789.yaml") == 2
    assert capsys.readouterr().err.startswith("***.yaml: ")


@pytest.mark.slow
def test_it_runs_as_a_module_with_the_same_exit_codes(tmp_path):
    command = [sys.executable, "-m", "orchestrator", "run", str(tmp_path / "none.yaml")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.endswith("none.yaml: No such file or directory\n")
    assert "Traceback" not in ended.stderr


# methods and schema


def test_methods_lists_every_method_with_its_source_what_it_needs_and_searches(selftrain, capsys):
    assert selftrain("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == method_names()
    assert all(line.endswith("]") for line in lines[::2])
    assert all("searches" in line for line in lines[1::2])
    assert "needs two views; searches" in lines[1 + 2 * method_names().index("fixmatch")]
    assert selftrain("methods", "--json") == 0
    assert sorted(json.loads(capsys.readouterr().out)) == method_names()


def test_a_method_is_shown_whole_and_its_recipe_is_a_config(selftrain, capsys):
    assert selftrain("methods", "noisy_student") == 0
    heading, source, departs, acts, searchable, rest = capsys.readouterr().out.split("\n", 5)
    assert heading.startswith("noisy_student: ")
    assert source.startswith("Source: Xie")
    assert departs.startswith("Departs from the paper: ")
    assert acts == "Acts on: table"
    assert searchable.startswith("Searchable: curriculum, selection, targets, labelling, policy, ")
    assert yaml.safe_load(rest)["recipe"]["targets"]["kind"] == "soft"


def test_an_unknown_method_exits_with_2(selftrain, capsys):
    assert selftrain("methods", "noisy_studnet") == 2
    assert "did you mean 'noisy_student'" in capsys.readouterr().err


def test_the_schema_is_printed_or_written(selftrain, capsys, tmp_path):
    assert selftrain("schema") == 0
    printed = json.loads(capsys.readouterr().out)
    assert selftrain("schema", "--out", "schema.json") == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == printed
    assert "$schema=schema.json" in capsys.readouterr().out
    assert printed["required"] == ["data"]


# data


def test_prepare_says_what_it_wrote_and_does_not_write_it_twice(selftrain, capsys, tmp_path):
    command = ("prepare", "digits", "--out", "d", "--validation", 20, "--test", 20, "--json")
    assert selftrain(*command) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["labelled"], counts["pool"], counts["classes_found"]) == (100, 1657, 10)
    before = (tmp_path / "d" / "dataset.json").stat().st_mtime_ns
    assert selftrain(*command) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == counts
    assert "--again writes it anew" in said.err
    assert (tmp_path / "d" / "dataset.json").stat().st_mtime_ns == before


# plan, run, show, explain


def test_a_plan_prints_every_step_and_computes_nothing(selftrain, capsys, make_config, write):
    config = make_config()
    assert selftrain("plan", write(config)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("to compute" in line for line in lines) == 10
    assert "0 of 10 steps are in the store" in lines[-2]
    assert list(Store(config.store).steps()) == []


def test_a_plan_for_machines_is_one_json_list(selftrain, capsys, make_config, write):
    assert selftrain("plan", write(make_config()), "--json", "--set", "recipe.seed=3") == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["step"] for line in lines[:3]] == ["train", "score", "label"]
    assert not any(line["in_store"] for line in lines)


SHORT = ("recipe.policy.num_rounds=1", "recipe.policy.label_last=false")


def test_a_run_answers_with_its_record_and_is_shown_again(selftrain, capsys, make_config, write):
    path = write(make_config(*SHORT, "recipe.training.steps.first_round=2"))
    assert selftrain("run", path, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["status"], len(answer["rounds"])) == ("finished", 1)
    assert selftrain("show", answer["run"][:7], "--json") == 0
    assert json.loads(capsys.readouterr().out) == answer
    assert selftrain("show", "nosuchrun") == 2
    assert f"no run 'nosuchrun' in runs: {answer['run']}" in capsys.readouterr().err


def test_explain_names_the_field_in_which_two_steps_differ(selftrain, capsys, store):
    one, other = (f"train/{identity.address[:10]}" for identity in IDENTITIES)
    assert selftrain("explain", one, other) == 0
    assert capsys.readouterr().out == "reads.rate: 0.1 -> 0.2\n"
    assert selftrain("explain", one, one) == 0
    assert capsys.readouterr().out == "the two are the same step\n"
    assert selftrain("explain", one) == 0
    assert json.loads(capsys.readouterr().out) == IDENTITIES[0].plain()


def test_explain_wants_the_name_of_exactly_one_step(selftrain, capsys, store):
    assert selftrain("explain", "train/") == 2
    assert "names 2 finished steps" in capsys.readouterr().err
    assert selftrain("explain", "label/ffff") == 2
    assert "names 0 finished steps" in capsys.readouterr().err


def test_explain_tells_what_became_of_a_row(selftrain, capsys, played):
    runs = ("--runs", played.config.runs)
    assert selftrain("explain", played.run, "--row", "nobody", *runs) == 2
    assert "has no row 'nobody'" in capsys.readouterr().err
    told = played.rounds[0].steps["label"].address
    row = table_of(played.config.store, "label", told)["example_id"][0].as_py()
    assert selftrain("explain", played.run, "--row", row, *runs) == 0
    assert capsys.readouterr().out.startswith("chosen by selector class_share\nround 0  ")
    assert selftrain("explain", played.run, "--row", row, "--set", "recipe.seed=9", *runs) == 2
    assert "--row asks about one run" in capsys.readouterr().err


def test_explain_says_where_a_run_stands_and_how_a_config_differs(
    selftrain, write, capsys, make_config, tmp_path
):
    config = make_config("recipe.policy={num_rounds: 1, label_last: false}")
    record = play(config)
    runs = ("--runs", tmp_path / "runs")
    assert selftrain("explain", record.run, *runs) == 0
    assert "it waits for nothing: all rounds played" in capsys.readouterr().out
    other = ("--plan", write(config), "--set", "recipe.seed=9")
    assert selftrain("explain", record.run, *other, *runs) == 0
    said = capsys.readouterr().out
    assert said.startswith("round 0  train differs: train/")
    assert "\n  seed: " in said


# store


def test_store_ls_lists_finished_and_unfinished_steps(selftrain, capsys, store):
    assert selftrain("store", "ls") == 0
    said = capsys.readouterr().out
    assert said.count("7 bytes") == 2
    assert f"label/{'f' * 24}  unfinished" in said
    assert selftrain("store", "ls", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert sorted(row["finished"] for row in rows) == [False, True, True]


def test_store_verify_finds_a_broken_step_and_exits_with_4(selftrain, capsys, store):
    assert selftrain("store", "verify") == 0
    assert "2 steps verified, 0 broken" in capsys.readouterr().out
    store.files.write(f"steps/train/{IDENTITIES[0].address}/a.bin", b"CONTENT")
    assert selftrain("store", "verify") == 4
    assert "a.bin differs from its record" in capsys.readouterr().out


def test_store_verify_drops_broken_steps_if_asked_and_only_those(selftrain, capsys, store):
    store.files.write(f"steps/train/{IDENTITIES[0].address}/a.bin", b"CONTENT")
    assert selftrain("store", "verify", "--drop") == 0
    assert f"dropped train/{IDENTITIES[0].address}" in capsys.readouterr().out
    assert finished(store) == {IDENTITIES[1].address}


def test_store_gc_deletes_what_unfinished_work_left_and_no_finished_step(selftrain, capsys, store):
    assert selftrain("store", "gc", "--dry-run") == 0
    assert f"would delete steps/label/{'f' * 24}" in capsys.readouterr().out
    assert store.leftovers()
    assert selftrain("store", "gc") == 0
    assert store.leftovers() == []
    assert finished(store) == {identity.address for identity in IDENTITIES}


def test_store_gc_with_runs_keeps_exactly_the_steps_that_they_point_at(
    selftrain, capsys, store, make_config
):
    config = make_config(*SHORT, "recipe.training.steps.first_round=2")
    record = play(config)
    kept = {step.address for each in record.rounds for step in each.steps.values()}
    assert kept < finished(store)
    assert selftrain("store", "gc", "--runs", config.runs) == 0
    assert finished(store) == kept
