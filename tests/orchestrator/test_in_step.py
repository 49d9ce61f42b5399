"""Runs whose training steps label the pool: what they record, and what they raise."""

import numpy as np
import pytest

from orchestrator.console import Console
from orchestrator.errors import Interrupted
from orchestrator.runs import RunRecord
from orchestrator.session import play_run
from orchestrator.signals import StopRequest
from orchestrator.store.store import Store
from orchestrator.tracking.tracker import read_events
from tests.orchestrator.helpers import play

pytestmark = pytest.mark.slow

ONE_ROUND = (
    "method=fixmatch",
    "recipe.policy.num_rounds=1",
    "recipe.training.steps.first_round=40",
    "recipe.training.batch={labelled: 16, pool: 32}",
    "recipe.training.optimiser.learning_rate=0.05",
)
FIXMATCH = "recipe.training.objective.consistency.selector={kind: threshold, threshold: 0.3}"


@pytest.fixture
def one_round(make_config):
    """Configs of one round that labels in the step alone."""

    def make(*overrides: str):
        config = make_config(*ONE_ROUND, *overrides)
        policy = config.recipe.policy.model_copy(update={"label_last": False})
        recipe = config.recipe.model_copy(update={"policy": policy})
        return config.model_copy(update={"recipe": recipe})

    return make


def in_step(record: RunRecord):
    (only,) = record.rounds
    return only.in_step


def test_a_run_of_fixmatch_records_what_its_steps_accepted_by_class(one_round):
    record = play(one_round(FIXMATCH))
    (only,), told = record.rounds, in_step(record)
    assert list(only.steps) == ["train-alone", "score-alone", "train", "score"]
    assert (only.accepted, only.class_rows, only.selection) == (None, (), {})
    assert told.rows == 10 * 32  # a quarter of its steps
    assert 0 < sum(told.class_rows) == round(told.accepted_share * told.rows)
    assert 0.1 < told.mean_confidence < 1
    assert 0 < told.entropy_of_mean < np.log(10)
    assert (told.not_finite, told.accepts_all) == (0, False)
    assert only.terms["consistency_accepted"] > 0
    assert only.term_weights["consistency"] == 1
    assert 0 < only.teacher_distance < 1
    assert 0 <= only.teacher_disagreement < 1


def test_a_collapsed_one_round_run_raises_the_alarm(one_round):
    collapse = "recipe.training.optimiser.learning_rate=10"
    record = play(one_round(FIXMATCH, collapse))
    (only,) = record.rounds
    assert max(only.in_step.class_rows) > 0.4 * sum(only.in_step.class_rows) > 0, "of ten classes"
    assert any("of what the last training steps accepted" in alarm for alarm in only.alarms)
    assert any(alarm.startswith("none of the") for alarm in only.alarms)


def test_a_bound_that_no_row_reaches_raises_the_alarm_and_one_that_all_reach_by_plan_none(
    one_round,
):
    (never,) = play(one_round(FIXMATCH.replace("0.3", "1.0"))).rounds
    assert any(alarm.startswith("only 0.00%") for alarm in never.alarms)
    every = "recipe.training.objective.consistency.selector={kind: everything}"
    (always,) = play(one_round(every)).rounds
    assert always.in_step.accepted_share == 1
    assert not any("holds next to nothing back" in alarm for alarm in always.alarms)


def test_an_interrupted_run_records_what_a_whole_one_does(one_round, tmp_path):
    class StopAt(StopRequest):
        left = 70

        def asked(self) -> bool:
            self.left -= 1
            return self.left < 0

    config = one_round(FIXMATCH)
    with pytest.raises(Interrupted):
        play_run(config, Console(quiet=True), StopAt())
    resumed = play(config)
    step = resumed.rounds[0].steps["train"].address
    counts = Store(config.store).record("train", step).counts
    assert 0 < counts["steps_this_attempt"] < counts["steps"]
    whole = play(config.model_copy(update={"store": str(tmp_path / "other")}))
    assert in_step(resumed) == in_step(whole)


def test_progress_tells_every_term_and_what_steps_accept(one_round):
    config = one_round(FIXMATCH)
    record = play(config)
    events = read_events(config.runs / record.run)
    told = [event for event in events if event["event"] == "progress" and "loss" in event]
    assert told
    terms = {"loss/labelled", "loss/consistency", "loss/consistency_accepted"}
    assert terms | {"in_step/accepted_share", "in_step/not_finite"} <= told[-1].keys()


def test_the_line_of_a_training_says_how_much_of_the_pool_its_steps_accepted(one_round, capfd):
    with Console() as console:
        record, _ = play_run(one_round(FIXMATCH), console, StopRequest())
    (line,) = [x for x in capfd.readouterr().out.splitlines() if x.split()[2:3] == ["train"]]
    assert f"{in_step(record).accepted_share:.1%} of pool rows accepted" in line


def test_a_run_whose_tables_pass_by_plan_raises_no_alarm_of_full_coverage(make_config):
    sure = play(make_config("recipe.selector={kind: everything}"))
    assert sure.rounds[0].selection["coverage"] == 1
    assert not any("nothing back" in alarm for each in sure.rounds for alarm in each.alarms)
    loose = play(make_config("recipe.selector={kind: threshold, threshold: 0.105}"))
    assert any("nothing back" in alarm for alarm in loose.rounds[0].alarms)


@pytest.mark.usefixtures("ray_cluster")
def test_steps_accept_the_same_on_ray_as_in_this_process(one_round, tmp_path):
    here = play(one_round(FIXMATCH))
    there = play(one_round(FIXMATCH, "placement.engine=ray", f"store={tmp_path / 'other'}"))
    assert in_step(there) == in_step(here)
