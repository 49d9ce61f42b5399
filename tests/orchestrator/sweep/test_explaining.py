"""Why a trial ended, from the events of its sweep."""

import pytest

from orchestrator.errors import ConfigError
from orchestrator.sweep.explaining import explain_sweep, explain_trial, trial_of
from orchestrator.tracking.tracker import Tracker

REASON = "after round 1 the best is 0.5000 and its rise leads to 0.5500, below 0.7000"


@pytest.fixture
def sweep(tmp_path):
    """The folder of a sweep: trial 0 complete, 1 pruned, 2 waiting, 3 failed."""
    folder = tmp_path / "quick-sweep-1"
    tracker = Tracker(folder, [])
    (folder / "sweep.json").write_text("{}")
    for trial in range(4):
        origin = "tpe" if trial else "defaults"
        chosen = {"recipe.selector.share": 0.25} if trial else {}
        tracker.emit("trial_started", trial=trial, origin=origin, chosen=chosen)
    for round_ in (0, 1):
        for trial in (0, 1):
            newest = {"alarms": ["class 1 holds all"] * trial}
            seeds = [{"score": s + 0.1 * round_, "newest": newest} for s in (0.4, 0.6)]
            tracker.emit("trial_round", trial=trial, round=round_, seeds=seeds)
    waiting = "step train abc is being worked on by process 7 on elsewhere; waiting for it"
    tracker.emit("trial_waits", trial=2, round=0, step="train", text=waiting)
    tracker.emit("trial_ended", trial=0, state="complete", values=[0.6])
    tracker.emit("trial_ended", trial=1, state="pruned", reason=REASON)
    tracker.emit("trial_ended", trial=3, state="failed", error="share and threshold disagree")
    tracker.close()
    return folder


def test_a_pruned_trial_says_why_and_how_its_rounds_went(sweep):
    assert explain_trial(sweep, 1) == [
        "trial 1 of quick-sweep-1, proposed by tpe",
        "  selector.share=0.25",
        "round 0  validation 0.5000, mean of 2 seeds",
        "  alarm: class 1 holds all",
        "round 1  validation 0.6000, mean of 2 seeds",
        "  alarm: class 1 holds all",
        f"pruned: {REASON}",
    ]


def test_a_complete_one_has_its_objectives_and_a_failed_one_its_error(sweep):
    assert explain_trial(sweep, 0)[-1] == "complete: all its rounds are played, objectives 0.6000"
    assert explain_trial(sweep, 3)[-1] == "failed: share and threshold disagree"


def test_a_trial_that_waits_says_for_whom(sweep):
    last = explain_trial(sweep, 2)[-1]
    assert last.startswith("round 0  train: step train abc is being worked on by process 7")


def test_a_promoted_trial_says_so(sweep):
    tracker = Tracker(sweep, [])
    tracker.emit("trial_promoted", trial=1)
    tracker.close()
    assert explain_trial(sweep, 1)[-1].startswith("later it was taken up again")


def test_a_trial_that_was_never_begun_is_an_error_that_names_those_that_were(sweep):
    with pytest.raises(ConfigError, match="has begun no trial 9; it has begun 0, 1, 2, 3"):
        explain_trial(sweep, 9)


def test_a_sweep_shows_who_plays_it_and_where_its_open_trials_are(sweep):
    status, player, waiting = explain_sweep(sweep)
    assert status == "quick-sweep-1: 4 trials begun, 3 ended"
    assert player.startswith("nobody plays it")
    assert waiting.startswith("trial 2  round 0  train: step train abc is being worked on")


@pytest.mark.parametrize("name", ["quick-sweep-1/1", "quick/trial-1", "quick-sweep-1/trial-0001"])
def test_trials_are_named_by_sweep_and_number(sweep, name):
    assert trial_of(sweep.parent, name) == (sweep, 1)


@pytest.mark.parametrize("name", ["train/0a1b", "nowhere/1", "quick-sweep-1", "1"])
def test_other_names_are_no_trials(sweep, name):
    assert trial_of(sweep.parent, name) is None
