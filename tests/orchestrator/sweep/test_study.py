"""The study: true states in a journal that plain Optuna reads, and nothing lost by a restart."""

import json
import math
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from orchestrator.errors import StoreError
from orchestrator.sweep.space import Space
from orchestrator.sweep.spec import SweepSpec
from orchestrator.sweep.study import JOURNAL, Study, draw, read_trials
from tests.orchestrator.sweep.helpers import KIND, RATE, SELECTED, SHARE, THRESHOLD, TWO, space_of

LINEAR = {"schedule": "linear", "start": 0.2, "end": 1.0}
MIXED = {
    KIND: {"choices": ["class_share", "threshold"]},
    SHARE: {"choices": [0.3, LINEAR], "when": {KIND: "class_share"}},
    THRESHOLD: {
        "low": 0.6,
        "high": 0.99,
        "scale": "one_minus_log",
        "when": {KIND: "threshold"},
    },
    SELECTED: {"low": 32, "high": 128, "step": 32},
    RATE: {"low": 0.01, "high": 0.3, "scale": "log"},
}


def opened(folder: Path, space: Space, **spec) -> Study:
    return Study(folder, "sweep", SweepSpec(**spec), space)


def plain_study(folder: Path) -> optuna.Study:
    """The same study as anybody's Optuna opens it."""
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    return optuna.load_study(study_name="sweep", storage=storage)


# ---- states


def test_the_states_and_values_are_what_plain_optuna_reads(tmp_path):
    study = opened(tmp_path, space_of(TWO))
    for _ in range(4):
        study.next()
    study.report(0, 0, 0.7)
    study.report(0, 1, 0.8)
    study.complete(0, [0.8], tests=[0.75])
    study.report(1, 0, 0.6)
    study.report(1, 1, 0.5)
    study.prune(1, "below the bar")
    study.fail(2, "the recipe does not fit")
    found = plain_study(tmp_path).trials
    assert [t.state for t in found] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert (found[0].value, found[0].user_attrs["tests"]) == (0.8, [0.75])
    assert (found[1].value, found[1].user_attrs["reason"]) == (0.5, "below the bar")
    assert found[1].intermediate_values == {0: 0.6, 1: 0.5}
    assert (found[2].value, found[2].user_attrs["error"]) == (None, "the recipe does not fit")
    assert plain_study(tmp_path).best_trial.number == 0


def test_our_own_view_of_the_trials_is_the_same(tmp_path):
    study = opened(tmp_path, space_of(TWO))
    study.enqueue({SHARE: 0.4, RATE: 0.1}, "warm")
    first = study.next()
    study.report(0, 0, 0.7)
    study.complete(0, [0.7], rounds=1)
    (trial,) = study.trials()
    assert (trial.number, trial.state, trial.origin) == (0, "complete", "warm")
    assert trial.chosen == first.chosen == {SHARE: 0.4, RATE: 0.1}
    assert (trial.curve, trial.values, trial.notes["rounds"]) == ({0: 0.7}, (0.7,), 1)


def test_a_value_that_is_no_number_is_a_failure(tmp_path):
    study = opened(tmp_path, space_of(TWO))
    study.next()
    study.complete(0, [math.nan], rounds=2)
    (found,) = plain_study(tmp_path).trials
    assert (found.state, found.user_attrs["rounds"]) == (TrialState.FAIL, 2)
    assert found.user_attrs["error"] == "the objectives are [nan]"


def test_several_objectives_have_their_directions_and_no_curve(tmp_path):
    objectives = ("score", "seconds", "pseudo_labels")
    study = opened(tmp_path, space_of(TWO), objectives=objectives, sampler="nsga2")
    study.next()
    study.report(0, 0, 0.7)
    study.complete(0, [0.7, 12.5, 400])
    found = plain_study(tmp_path)
    assert [d.name for d in found.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert found.metric_names == list(objectives)
    assert found.trials[0].values == [0.7, 12.5, 400]


def test_the_journal_is_json_lines_and_no_pickle(tmp_path):
    study = opened(tmp_path, space_of(MIXED))
    for number in range(4):
        study.next()
        study.report(number, 0, 0.5)
        study.complete(number, [0.5], rounds=1)
    lines = (tmp_path / JOURNAL).read_text(encoding="utf-8").splitlines()
    assert len(lines) > 20
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert "pickle" not in (tmp_path / JOURNAL).read_text()


def test_a_file_that_is_no_journal_is_told(tmp_path):
    (tmp_path / JOURNAL).write_text("this is no journal\n")
    with pytest.raises(StoreError, match=rf"{JOURNAL} can't be read as a study"):
        opened(tmp_path, space_of(TWO))


# ---- restarts


def test_a_reopened_study_hands_running_trials_out_again_unchanged(tmp_path):
    space = space_of(MIXED)
    study = opened(tmp_path, space)
    study.enqueue({SELECTED: 64, RATE: 0.1}, "warm")
    begun = [study.next() for _ in range(4)]
    study.complete(1, [0.8])
    left = opened(tmp_path, space).unfinished()
    assert left == [begun[0], begun[2], begun[3]]
    assert left[0].chosen == {SELECTED: 64, RATE: 0.1}
    assert len(plain_study(tmp_path).trials) == 4
    assert opened(tmp_path, space).unfinished() == left


def test_a_trial_whose_process_died_before_all_was_drawn_keeps_its_number_and_what_it_had(tmp_path):
    space = space_of(TWO)
    opened(tmp_path, space)
    raw = plain_study(tmp_path)
    raw.ask()  # died at once
    half = raw.ask().suggest_float(SHARE, 0.1, 0.9)  # died after the first value
    first, second = opened(tmp_path, space).unfinished()
    assert (first.number, second.number) == (0, 1)
    assert second.chosen[SHARE] == half
    assert set(first.chosen) == set(second.chosen) == {SHARE, RATE}
    assert opened(tmp_path, space).unfinished() == [first, second]


def test_a_queued_trial_whose_process_died_before_it_was_drawn_keeps_its_queued_values(tmp_path):
    space = space_of(TWO)
    opened(tmp_path, space).enqueue({SHARE: 0.25, RATE: 0.2}, "grid")
    plain_study(tmp_path).ask()
    (left,) = opened(tmp_path, space).unfinished()
    assert (left.number, left.chosen, left.origin) == (0, {SHARE: 0.25, RATE: 0.2}, "grid")


def test_a_round_that_is_reported_again_changes_nothing(tmp_path):
    space = space_of(TWO)
    study = opened(tmp_path, space)
    study.next()
    study.report(0, 0, 0.7)
    size = (tmp_path / JOURNAL).stat().st_size
    study.report(0, 0, 0.9)
    assert (tmp_path / JOURNAL).stat().st_size == size
    assert study.trials()[0].curve == {0: 0.7}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_draws_follow_the_seed_and_differ_after_a_restart(tmp_path, sampler):
    space = space_of(TWO)

    def first_of(name: str, seed: int) -> dict:
        return opened(tmp_path / name, space, sampler=sampler, sampler_seed=seed).next().chosen

    assert first_of("a", 0) == first_of("b", 0)
    assert first_of("c", 1) != first_of("a2", 0)
    values = {opened(tmp_path / "d", space, sampler=sampler).next().chosen[SHARE] for _ in range(5)}
    assert len(values) == 5


def test_what_is_told_of_rounds_does_not_move_what_is_drawn(tmp_path):
    """Reports come in any order from trials that play side by side; draws must not hang on it."""
    space = space_of(TWO)
    drawn = []
    for name, times in (("quiet", 0), ("loud", 2)):
        study = opened(tmp_path / name, space)
        for chosen in draw(space, 0, 10):
            study.add(chosen, "known", [chosen[SHARE]])
        for number in range(10, 13):
            study.next()
            for round_ in range(times):
                study.report(number, round_, 0.5)
        drawn.append([trial.chosen for trial in study.trials()])
    assert drawn[0] == drawn[1]


def test_a_queue_that_was_cut_short_is_filled_again_without_a_double(tmp_path):
    space = space_of(MIXED)
    points = [{KIND: "class_share", SHARE: s, SELECTED: 32, RATE: 0.1} for s in (0.3, LINEAR)]

    def fill(study: Study, number: int) -> None:
        study.enqueue({}, "defaults")
        for point in points[:number]:
            study.enqueue(point, "grid")
            study.add(point, "screened", ())
            study.add(point, "known", [0.5])

    fill(opened(tmp_path, space), 1)
    opened(tmp_path, space).next()  # a trial that has begun still stands there
    study = opened(tmp_path, space)
    fill(study, 2)
    fill(study, 2)
    assert [(t.origin, t.chosen) for t in study.trials() if t.state in ("waiting", "running")] == [
        ("defaults", {}),
        ("grid", points[0]),
        ("grid", points[1]),
    ]
    assert [t.state for t in study.trials()].count("screened") == 2
    assert [t.state for t in study.trials()].count("known") == 2


def test_something_can_be_remembered_across_restarts(tmp_path):
    space = space_of(TWO)
    study = opened(tmp_path, space)
    assert study.remembered("queued") is None
    study.remember("queued", value=True)
    assert opened(tmp_path, space).remembered("queued") is True


# ---- proposals


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cma_es", "nsga2", "random"])
def test_every_sampler_proposes_legal_values_beside_told_known_and_screened_trials(
    tmp_path, sampler
):
    space = space_of(MIXED)
    by_path = {d.path: d for d in space.dimensions}
    study = opened(tmp_path, space, sampler=sampler)
    for i, chosen in enumerate(draw(space, 3, 14)):
        known = i % 4 > 0
        study.add(chosen, "known" if known else "screened", [chosen[RATE]] if known else ())
    for number in range(14, 18):
        proposal = study.next()
        assert (proposal.number, proposal.origin) == (number, "sampler")
        space.config(proposal.chosen)
        held = {d.path for d in space.dimensions if space.exists(d, proposal.chosen)}
        assert set(proposal.chosen) == held
        assert all(by_path[path].contains(value) for path, value in proposal.chosen.items())
        study.report(number, 0, 0.5)
        if number == 15:
            study.prune(number, "below the bar")
        elif number == 16:
            study.fail(number, "fell over")
        else:
            study.complete(number, [proposal.chosen[RATE]])


@pytest.mark.parametrize(("objective", "sign"), [("score", -1), ("seconds", 1)])
def test_a_sampler_that_learns_goes_to_where_the_objective_is_good(tmp_path, objective, sign):
    """The seed is fixed, so the test is exact."""
    space = space_of({SHARE: TWO[SHARE]})
    study = opened(tmp_path, space, sampler="gp", objectives=(objective,))
    for chosen in draw(space, 0, 10):
        study.add(chosen, "known", [sign * abs(chosen[SHARE] - 0.7)])
    assert abs(study.next().chosen[SHARE] - 0.7) < 0.05


def test_the_queue_comes_first_and_in_order(tmp_path):
    study = opened(tmp_path, space_of(TWO))
    study.enqueue({SHARE: 0.2, RATE: 0.1}, "defaults")
    study.enqueue({SHARE: 0.3, RATE: 0.1}, "grid")
    found = [study.next() for _ in range(3)]
    assert [p.origin for p in found] == ["defaults", "grid", "sampler"]
    assert [p.chosen[SHARE] for p in found[:2]] == [0.2, 0.3]


@pytest.mark.parametrize("chosen", [{}, {RATE: 0.1}])
def test_defaults_that_the_space_can_not_hold_are_left_to_the_config(tmp_path, chosen):
    space = space_of({**TWO, SHARE: {"low": 0.6, "high": 0.9}})
    study = opened(tmp_path, space)
    study.enqueue(chosen, "defaults")
    proposal = study.next()
    assert proposal.chosen == chosen
    assert space.config(proposal.chosen).recipe.selector.share == 0.5
    assert study.trials()[0].chosen == chosen


@pytest.mark.parametrize("threshold", [0.6, 0.75, 0.95, 0.99, 0.9123456789])
def test_the_configs_own_values_come_back_from_the_study_exactly(tmp_path, threshold):
    """A default that came back as 0.9499999 would play, and pay for, another run."""
    space = space_of(MIXED, f"recipe.selector={{kind: threshold, threshold: {threshold}}}")
    study = opened(tmp_path, space)
    study.enqueue(space.defaults(), "defaults")
    study.next()
    assert opened(tmp_path, space).unfinished()[0].chosen[THRESHOLD] == threshold
    assert space.config(study.trials()[0].chosen).recipe == space.base.recipe


def test_a_small_default_on_a_scale_of_one_minus_log_comes_back_exactly(tmp_path):
    decay = "recipe.training.teacher.decay"
    entry = {decay: {"low": 0.1, "high": 0.99, "scale": "one_minus_log"}}
    for i, value in enumerate((0.1, 0.2, 0.3, 0.45)):
        space = space_of(entry, f"recipe.training.teacher={{kind: ema, decay: {value}}}")
        study = opened(tmp_path / str(i), space)
        study.enqueue(space.defaults(), "defaults")
        assert study.next().chosen == {decay: value}


def test_choices_that_are_schedules_survive_the_journal(tmp_path):
    space = space_of(MIXED)
    study = opened(tmp_path, space)
    study.enqueue({KIND: "class_share", SHARE: LINEAR, SELECTED: 32, RATE: 0.1}, "warm")
    study.next()
    assert study.trials()[0].chosen[SHARE] == LINEAR
    (again,) = opened(tmp_path, space).unfinished()
    assert space.config(again.chosen).recipe.selector.share.end == 1.0
    assert plain_study(tmp_path).trials[0].params[SHARE] == json.dumps(LINEAR, sort_keys=True)


def test_the_name_of_a_mirrored_parameter_says_so(tmp_path):
    study = opened(tmp_path, space_of(MIXED))
    study.enqueue({KIND: "threshold", THRESHOLD: 0.75, SELECTED: 32, RATE: 0.1}, "warm")
    study.next()
    assert plain_study(tmp_path).trials[0].params[f"1 - {THRESHOLD}"] == 0.25


# ---- trials that were never played here


def test_a_known_trial_counts_for_the_sampler_with_its_value(tmp_path):
    study = opened(tmp_path, space_of(TWO))
    study.add({SHARE: 0.4, RATE: 0.1}, "known", [0.91], taken_from="older", tests=[0.9])
    (trial,) = study.trials()
    assert (trial.state, trial.values, trial.chosen) == ("known", (0.91,), {SHARE: 0.4, RATE: 0.1})
    assert (trial.notes["taken_from"], trial.notes["tests"]) == ("older", [0.9])
    assert plain_study(tmp_path).best_value == 0.91
    assert study.next().number == 1


def test_a_screened_candidate_has_no_value_and_is_not_proposed(tmp_path):
    study = opened(tmp_path, space_of(MIXED))
    chosen = {KIND: "class_share", SHARE: LINEAR, SELECTED: 32, RATE: 0.1}
    study.add(chosen, "screened", (), fidelity=0, screened={"score": 0.2})
    (trial,) = study.trials()
    assert (trial.state, trial.values, trial.chosen) == ("screened", (), chosen)
    assert plain_study(tmp_path).trials[0].state == TrialState.PRUNED
    assert study.unfinished() == []
    assert study.next().number == 1


def test_drawing_at_random_leaves_no_trace_in_the_study(tmp_path):
    space = space_of(MIXED)
    study = opened(tmp_path, space)
    first, again = list(draw(space, 5, 10)), list(draw(space, 5, 10))
    assert first == again != list(draw(space, 6, 10))
    assert study.trials() == []


def test_another_sweep_reads_the_trials_and_says_where_there_are_none(tmp_path):
    space = space_of(TWO)
    study = opened(tmp_path / "old", space)
    study.enqueue({SHARE: 0.4, RATE: 0.1}, "defaults")
    study.next()
    study.complete(0, [0.8])
    assert read_trials(tmp_path / "old", space) == study.trials()
    with pytest.raises(StoreError, match="holds no sweep"):
        read_trials(tmp_path / "new", space)


# ---- what a report shows


def test_importances_need_a_few_trials_and_name_the_parameter_that_mattered(tmp_path):
    space = space_of(TWO)
    study = opened(tmp_path, space, sampler="random")
    assert study.importances() == {}
    for number in range(12):
        study.complete(number, [study.next().chosen[SHARE]])
        if number == 0:
            assert study.importances() == {}
    found = study.importances()
    assert set(found) == {SHARE, RATE}
    assert found[SHARE] > 0.8
    assert sum(found.values()) == pytest.approx(1.0)


def test_importances_of_several_objectives_are_those_of_good_values_of_the_first(tmp_path, recwarn):
    """Among good trials the share decides, among bad ones the rate."""
    space = space_of(TWO)
    study = opened(tmp_path, space, objectives=("score", "seconds"), sampler="random")
    for chosen in draw(space, 0, 60):
        good = chosen[SHARE] > 0.5
        study.add(chosen, "known", [1 + chosen[SHARE] if good else chosen[RATE], 1.0])
    found = study.importances()
    assert found[SHARE] > 0.8
    assert len(study.figures()) >= 5
    assert [str(each.message) for each in recwarn if "target" in str(each.message)] == []


def test_figures_that_can_not_be_filled_are_left_out(tmp_path):
    study = opened(tmp_path, space_of(TWO))
    study.next()
    assert study.figures() == []
    study.complete(0, [0.5])
    titles = [title for title, _ in study.figures()]
    assert titles[0] == "History"
    assert "Importances" not in titles
