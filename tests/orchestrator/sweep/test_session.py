"""Whole sweeps on real digits in this process: what is computed, kept, gone on with, taken over."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.data.dataset import Dataset
from orchestrator.errors import AllFailedError, ConfigError, InfeasibleError, Interrupted
from orchestrator.loading import build_config, load_config
from orchestrator.runs import data_digest
from orchestrator.signals import StopRequest
from orchestrator.sweep.opening import open_sweep
from orchestrator.sweep.record import SweepRecord, load_sweep, save_sweep
from orchestrator.sweep.session import play_sweep
from orchestrator.sweep.study import Study, Trial
from orchestrator.tracking.tracker import read_events
from tests.conftest import QUICK
from tests.orchestrator.helpers import computed, play
from tests.orchestrator.sweep.helpers import RATE, SHARE
from tests.orchestrator.tracking.wandb_files import header, history, offline_files

pytestmark = pytest.mark.slow

SPACE: dict[str, Any] = {SHARE: {"low": 0.1, "high": 0.9}}
STEPS = 5
"""Steps of a round: train, score, label, select, audit."""


def config_in(folder: Path, data: Path, *overrides: str, space: Any = SPACE, **sweep: Any):
    """A quick config whose trials train for a moment."""
    tree = QUICK | {
        "data": str(data),
        "store": str(folder / "store"),
        "runs": str(folder / "runs"),
        "sweep": {"trials": 3, "sampler": "random", "fragments": [], "space": space, **sweep},
    }
    short = ["recipe.training.steps.first_round=8", "recipe.training.steps.base=4"]
    return build_config(tree, [*short, *overrides])


def sweep(
    config: RunConfig, stop: StopRequest | None = None, **options: Any
) -> tuple[SweepRecord, Path]:
    return play_sweep(config, Console(quiet=True), stop or StopRequest(), **options)


def trials_of(config: RunConfig) -> list[Trial]:
    """The trials as the next start of the sweep would find them."""
    opened = open_sweep(config)
    return Study(opened.folder, opened.name, opened.spec, opened.space).trials()


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(folder) if event["event"] == "trial_step"]


def work_of(folder: Path) -> Counter:
    """How often each step of each round was computed rather than found."""
    return Counter((e["round"], e["step"]) for e in steps_of(folder) if not e["from_store"])


class StopOnce(StopRequest):
    """Asks to stop from the moment when something is true."""

    def __init__(self, when: Callable[[], bool]) -> None:
        super().__init__()
        self._when = when

    def asked(self) -> bool:
        if not self._event.is_set() and self._when():
            self._event.set()
        return self._event.is_set()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits) -> tuple[Path, SweepRecord, Path]:
    """A sweep of three trials of two rounds: where it lies, its record, its folder."""
    folder = tmp_path_factory.mktemp("sweep")
    return folder, *sweep(config_in(folder, digits))


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of its store and runs, to go on with."""
    for name in ("store", "runs"):
        shutil.copytree(finished[0] / name, tmp_path / name)
    return tmp_path


# ---- a sweep from start to end


def test_a_sweep_plays_its_trials_the_methods_own_settings_first(finished):
    _, record, folder = finished
    assert (record.status, len(record.places), record.screened) == ("finished", 3, 0)
    assert sorted(place.trial for place in record.places) == [0, 1, 2]
    own = next(place for place in record.places if place.trial == 0)
    assert (own.origin, own.chosen) == ("defaults", {SHARE: 0.5})
    scores = [place.score for place in record.places]
    assert scores == sorted(scores, reverse=True)
    assert record.best == record.places[0].trial
    assert all(place.rounds == 2 and place.state == "complete" for place in record.places)
    assert load_sweep(folder) == record


def test_round_zero_is_trained_once_for_all_trials(finished):
    _, record, folder = finished
    work = work_of(folder)
    assert [work[0, name] for name in ("train", "score", "label")] == [1, 1, 1]
    assert [work[0, "select"], work[1, "train"]] == [3, 3]
    assert record.account.asked == len(steps_of(folder)) == 3 * 2 * STEPS
    assert record.account.computed == sum(work.values())
    assert record.account.shared == record.account.asked - record.account.computed
    assert record.account.found == 0


def test_the_folder_holds_all_that_a_reader_needs(finished):
    _, record, folder = finished
    names = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "events.jsonl", "study.journal", "sweep.json"} <= names
    assert {"best.yaml", "report.html"} <= names
    assert record.sweep in (folder / "report.html").read_text()
    assert load_config(folder / "config.yaml").sweep == record.config.sweep
    names = [event["event"] for event in read_events(folder)]
    assert (names[0], names[-1]) == ("sweep_started", "sweep_closed")
    assert Counter(names)["trial_round"] == 6
    told = [event for event in read_events(folder) if event["event"] == "trial_round"]
    for event in told:
        (seed,) = event["seeds"]
        assert seed["newest"]["round"] == event["round"]
        assert seed["newest"]["validation"]["score"] == seed["score"]


def test_the_best_trial_replays_from_the_store_without_any_work(finished):
    _, record, folder = finished
    config = load_config(folder / "best.yaml")
    assert config.recipe.selector.share == record.places[0].chosen[SHARE]
    again = play(config)
    assert computed(again) == []
    best = again.rounds[again.best_round]
    assert best.validation["score"] == record.places[0].score
    assert best.test["score"] == record.places[0].test


def test_a_trial_is_the_run_that_anybody_plays_with_its_values(copied, digits):
    """The sweep's own settings were trial 0, so the plain run finds all its steps."""
    assert computed(play(config_in(copied, digits))) == []


def test_the_same_command_again_computes_and_adds_nothing(finished, copied, digits):
    before = len(steps_of(finished[2]))
    record, folder = sweep(config_in(copied, digits))
    assert folder.name == finished[2].name
    assert len(steps_of(folder)) == before
    assert [place.trial for place in record.places] == [p.trial for p in finished[1].places]
    assert record.account == finished[1].account


def test_more_trials_go_on_from_there(finished, copied, digits):
    record, folder = sweep(config_in(copied, digits, trials=4))
    assert sorted(place.trial for place in record.places) == [0, 1, 2, 3]
    new = [event for event in steps_of(folder) if event["trial"] == 3]
    assert len(new) == 2 * STEPS
    assert len(steps_of(folder)) == 4 * 2 * STEPS
    assert work_of(folder)[0, "train"] == 1
    kept = {place.trial: place.chosen for place in record.places}
    assert all(kept[place.trial] == place.chosen for place in finished[1].places)


# ---- interruptions and failures


@pytest.mark.parametrize("steps", [2, STEPS + 2, 2 * STEPS + 1])
def test_an_interrupted_sweep_goes_on_with_the_same_trials(finished, tmp_path, digits, steps):
    config = config_in(tmp_path, digits, trials=2)
    folder = open_sweep(config).folder
    stop = StopOnce(lambda: len(steps_of(folder)) >= steps)
    with pytest.raises(Interrupted):
        sweep(config, stop)
    assert load_sweep(folder).status == "interrupted"
    began = trials_of(config)
    running = [trial for trial in began if trial.state == "running"]
    assert len(running) == 1
    record, _ = sweep(config)
    ended = trials_of(config)
    assert [trial.number for trial in ended] == [0, 1]
    assert all(trial.state == "complete" for trial in ended)
    assert ended[running[0].number].chosen == running[0].chosen
    assert record.status == "finished"
    assert max(work_of(folder).values()) <= 2  # nothing was computed twice for one trial
    assert work_of(folder)[0, "train"] == 1
    assert record.account.asked == 2 * 2 * STEPS


def test_a_wish_to_stop_before_the_first_trial_leaves_it_waiting(tmp_path, digits):
    config = config_in(tmp_path, digits)
    with pytest.raises(Interrupted):
        sweep(config, StopOnce(lambda: (open_sweep(config).folder / "sweep.json").exists()))
    assert [trial.state for trial in trials_of(config)] == ["waiting"]


def test_if_every_trial_fails_the_sweep_does_with_the_first_error(tmp_path, digits):
    config = config_in(tmp_path, digits, "placement.train_workers=40", trials=2)
    with pytest.raises(AllFailedError, match="all 2 trials failed; trial 0: .*40, but a batch"):
        sweep(config)
    assert AllFailedError.exit_code == 5
    record = load_sweep(open_sweep(config).folder)
    assert [place.state for place in record.places] == ["failed", "failed"]
    assert (record.best, record.account.asked) == (None, 0)


def test_one_process_refuses_to_play_several_trials_at_a_time(tmp_path, digits):
    with pytest.raises(InfeasibleError, match=r"sweep\.concurrent is 2.* one trial at a time"):
        sweep(config_in(tmp_path, digits, concurrent=2))


def test_a_fault_of_the_space_is_told_before_anything_starts(tmp_path, digits):
    with pytest.raises(ConfigError, match="did you mean 'share'"):
        sweep(config_in(tmp_path, digits, space={"recipe.selector.shrae": {"low": 0, "high": 1}}))
    assert not (tmp_path / "runs").exists()


# ---- what is played


def test_trials_of_several_seeds_have_an_interval(tmp_path, digits):
    record, folder = sweep(config_in(tmp_path, digits, trials=1, seeds=[0, 1]))
    (place,) = record.places
    assert (place.seeds, place.rounds) == ((0, 1), 2)
    assert place.half_width is not None
    assert {event["seed"] for event in steps_of(folder)} == {0, 1}
    assert load_config(folder / "best.yaml").recipe.seed == 0


def test_a_grid_plays_every_point_and_the_defaults_once(copied, digits):
    grid = {SHARE: {"choices": [0.3, 0.5, 0.7]}}
    record, _ = sweep(config_in(copied, digits, space=grid, sampler="grid", trials=None))
    assert sorted((p.trial, p.origin, p.chosen[SHARE]) for p in record.places) == [
        (0, "defaults", 0.5),
        (1, "grid", 0.3),
        (2, "grid", 0.7),
    ]


def test_a_grid_plays_as_many_points_as_were_asked_for_and_goes_on(copied, digits):
    grid = {SHARE: {"choices": [0.3, 0.5, 0.7]}}
    record, _ = sweep(config_in(copied, digits, space=grid, sampler="grid", trials=1))
    assert [place.trial for place in record.places] == [0]
    record, _ = sweep(config_in(copied, digits, space=grid, sampler="grid", trials=2))
    assert sorted(place.chosen[SHARE] for place in record.places) == [0.3, 0.5]


def test_screening_judges_many_candidates_without_training_one(copied, digits):
    screen = {"keep": 2, "candidates": 40}
    behind = {"choices": [[], [{"kind": "align"}]]}
    space = {SHARE: {"low": 0.05, "high": 0.9}, "recipe.calibrators": behind}
    config = config_in(copied, digits, space=space, screen=screen)
    record, folder = sweep(config)
    trials = trials_of(config)
    assert Counter(t.state for t in trials) == {"screened": 38, "complete": 3}
    assert Counter(p.origin for p in record.places) == {"defaults": 1, "screened": 2}
    assert record.screened == 40
    kept = [t.notes["screened"]["score"] for t in trials if t.state == "complete" and t.number]
    left = [t.notes["screened"]["score"] for t in trials if t.state == "screened"]
    assert min(kept) >= max(left)
    assert (0, "train") not in work_of(folder)  # the copied store has round 0
    (event,) = [event for event in read_events(folder) if event["event"] == "screened"]
    assert (event["candidates"], event["kept"], event["refused"]) == (40, 2, 0)
    again, _ = sweep(config)
    assert again.screened == 40


def test_screening_needs_a_selector_that_varies(tmp_path, digits):
    space = {RATE: {"low": 0.01, "high": 0.1}}
    with pytest.raises(ConfigError, match="all candidates would select alike"):
        sweep(config_in(tmp_path, digits, space=space, screen={"keep": 2}))


# ---- what an older sweep knows


def older(config: RunConfig, *told: tuple[dict[str, Any], list[float]]) -> str:
    """A finished sweep of trials that nobody had to play."""
    opened = open_sweep(config)
    study = Study(opened.folder, opened.name, opened.spec, opened.space)
    for chosen, values in told:
        study.enqueue(chosen, "warm")
        number = study.next().number
        study.complete(number, values, scores=values[:1], rounds=2)
    data = data_digest(Dataset(config.data))
    record = SweepRecord(sweep=opened.name, status="finished", config=config, data=data)
    save_sweep(opened.folder, record)
    return opened.name


def known(config: RunConfig) -> list[tuple[dict[str, Any], float]]:
    return [(t.chosen, t.values[0]) for t in trials_of(config) if t.state == "known"]


def proposed(config: RunConfig) -> list[dict[str, Any]]:
    return [t.chosen for t in trials_of(config) if t.origin == "warm"]


WIDER = {SHARE: {"low": 0.25, "high": 0.95}}


def test_values_of_the_same_base_are_taken_over_where_the_space_holds_them(copied, digits):
    name = older(
        config_in(copied, digits, space={SHARE: {"low": 0.05, "high": 0.9}}),
        ({SHARE: 0.6}, [0.8]),
        ({SHARE: 0.1}, [0.9]),
        ({SHARE: 0.3}, [0.85]),
    )
    config = config_in(copied, digits, space=WIDER, trials=1)
    record, _ = sweep(config, warm_from=name)
    assert known(config) == [({SHARE: 0.3}, 0.85), ({SHARE: 0.6}, 0.8)]
    assert proposed(config) == []
    assert [place.trial for place in record.places] == [0]
    taken = [t for t in trials_of(config) if t.state == "known"]
    assert all(t.notes["taken_from"] == name for t in taken)
    sweep(config, warm_from=name)
    assert len(known(config)) == 2


def test_trials_of_another_base_are_proposed_anew_the_best_first(copied, digits):
    name = older(
        config_in(copied, digits, f"{RATE}=0.2"),
        *[({SHARE: share}, [share]) for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.1)],
    )
    config = config_in(copied, digits, space=WIDER, trials=1)
    sweep(config, warm_from=name)
    assert known(config) == []
    assert [chosen[SHARE] for chosen in proposed(config)] == [0.8, 0.7, 0.6, 0.5, 0.4]


def test_values_over_other_seeds_are_not_taken_over(copied, digits):
    name = older(config_in(copied, digits, seeds=[3, 4]), ({SHARE: 0.3}, [0.9]))
    config = config_in(copied, digits, space=WIDER, trials=1)
    sweep(config, warm_from=name)
    assert (known(config), proposed(config)) == ([], [{SHARE: 0.3}])


def test_a_trial_that_differs_in_what_is_not_searched_here_is_no_known_value(copied, digits):
    """Its learning rate was another one, so a trial here with its share would be another run."""
    both = {**SPACE, RATE: {"low": 0.01, "high": 0.3}}
    name = older(
        config_in(copied, digits, space=both),
        ({SHARE: 0.3, RATE: 0.2}, [0.9]),
    )
    config = config_in(copied, digits, space=WIDER, trials=1)
    sweep(config, warm_from=name)
    assert known(config) == []
    assert proposed(config) == [{SHARE: 0.3}]


def test_a_value_of_another_objective_is_not_taken_over(copied, digits):
    name = older(
        config_in(copied, digits, objectives=["seconds"]),
        ({SHARE: 0.3}, [12.0]),
        ({SHARE: 0.4}, [7.0]),
    )
    config = config_in(copied, digits, space=WIDER, trials=1)
    sweep(config, warm_from=name)
    assert known(config) == []
    assert proposed(config) == [{SHARE: 0.4}, {SHARE: 0.3}]


# ---- tracking


def test_every_trial_is_an_offline_run_of_wandb_in_the_sweeps_group(copied, digits):
    shutil.rmtree(copied / "runs")  # the same trials once more, from the store
    record, folder = sweep(config_in(copied, digits, "tracking.wandb=offline", trials=2))
    wandb.teardown()  # the files are complete once wandb's service has ended
    opened = {header(path).run_id: path for path in offline_files(folder)}
    name = record.sweep
    assert sorted(opened) == [name, f"{name}-0000", f"{name}-0001"]
    for run, path in opened.items():
        kind = "sweep" if run == name else "trial"
        assert (header(path).run_group, header(path).job_type) == (name, kind)
    rounds = [row for row in history(opened[f"{name}-0001"]) if "validation/score" in row]
    assert [row["round"] for row in rounds] == [0, 1]
    place = next(place for place in record.places if place.trial == 1)
    assert rounds[-1]["validation/delivered"] == place.score
    assert rounds[0]["selection/coverage"] > 0
    assert all(row["loss/labelled"] > 0 and "alarms" in row for row in rounds)
    (config,) = [i for i in header(opened[f"{name}-0001"]).config.update if i.key == "recipe"]
    assert f'"share":{place.chosen[SHARE]}' in config.value_json.replace(" ", "")
    assert any("leaderboard" in row or "leaderboard/_type" in row for row in history(opened[name]))
