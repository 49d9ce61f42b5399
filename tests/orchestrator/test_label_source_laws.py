"""Runs of several label sources: plans, interruptions, engines, and what an address reads."""

import json

import pytest

from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.data.dataset import Dataset
from orchestrator.errors import Interrupted
from orchestrator.runs import RunRecord
from orchestrator.session import play_run
from orchestrator.steps import Steps
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, chaos, computed, play, table_of
from tests.orchestrator.label_sources import (
    EARLIER,
    PASSES,
    SHORT,
    STUDENTS,
    VIEWS,
    believed,
    checkpoint,
    foreign,
    written,
)
from tests.orchestrator.test_plan import named, plan, same_steps
from tests.orchestrator.test_play import StopAt

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("label_functions")]


@pytest.fixture
def make(make_config):
    return lambda *overrides: make_config(*SHORT, *overrides)


def stopped_and_resumed(config: RunConfig, question: int) -> RunRecord:
    """The run that was stopped at this of its questions and played again."""
    with pytest.raises(Interrupted):
        play_run(config, Console(quiet=True), StopAt(question))
    return play(config)


@pytest.mark.parametrize("sources", [PASSES, (*PASSES, foreign(rounds="all")), STUDENTS])
def test_predictions_do_not_depend_on_how_many_rows_are_labelled_at_once(make, tmp_path, sources):
    one = make(*sources)
    other = make(*sources, "placement.label_rows_per_pass=17", f"store={tmp_path / 'other'}")
    records = play(one), play(other)
    assert addresses(records[0]) == addresses(records[1])
    for each in records[0].rounds:
        for name in (n for n in each.steps if n.startswith(("label", "combine"))):
            found, expected = (
                believed(config, record, each.round, name)
                for config, record in zip((one, other), records, strict=True)
            )
            assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-4)


@pytest.mark.parametrize("question", [2, 14, 25, 29])
def test_checkpoints_survive_an_interrupted_training(make, tmp_path, question):
    config = make(*EARLIER)
    other = config.model_copy(update={"store": str(tmp_path / "other")})
    resumed, whole = stopped_and_resumed(config, question), play(other)
    assert addresses(resumed) == addresses(whole)
    for name in ("label-at-0", "label-at-1", "combine"):
        address = whole.rounds[0].steps[name].address
        ours, theirs = (table_of(c.store, "label", address) for c in (config, other))
        assert ours.equals(theirs)


RUNS = {
    "checkpoints": EARLIER,
    "students": STUDENTS,
    "students that go on": ("recipe.labelling.students=2", "recipe.policy.start=warm"),
    "foreign first": (foreign(),),
    "foreign always": (foreign(rounds="all"), "recipe.policy.pool=keep"),
    "passes": (*PASSES, "recipe.filters=[{kind: spread}]"),
    "memory": ("recipe.labelling.remember=0.5", "recipe.policy.label_last=false"),
    "everything": (
        "recipe.labelling={students: 2, remember: 0.3, out_of_fold: 2, combine: {kind: choose}}",
        foreign(rounds="all"),
        "recipe.filters=[{kind: agreement, share: 0.3}]",
        "recipe.calibrators=[{kind: transport, plan: partial, share: 0.5, target: estimated}]",
        "recipe.targets={kind: soft, weight: {kind: mass}}",
        "recipe.policy={num_rounds: 3, start: warm, roll_back_below: 0.02, pool: keep}",
    ),
    "separation": (
        "recipe.selector={kind: separation, least_confidence: 0.1}",
        "recipe.labelling.students=2",
    ),
}


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
def test_a_run_does_exactly_the_steps_of_its_plan_and_finds_all_of_them_again(make, settings):
    config = make(*settings)
    before = plan(config)
    record = play(config)
    assert same_steps(before, record)
    assert named(plan(config)) == named(before)
    assert all(line.in_store for line in plan(config))
    again = play(config)
    assert computed(again) == []
    assert addresses(again) == addresses(record)


@pytest.mark.parametrize("question", [0, 2, 4, 7, 25, 60])
def test_stopped_anywhere_and_started_again_equals_uninterrupted(make, tmp_path, question):
    config = make(*STUDENTS[:1], foreign(rounds="all"))
    other = config.model_copy(update={"store": str(tmp_path / "other")})
    resumed, whole = stopped_and_resumed(config, question), play(other)
    assert addresses(resumed) == addresses(whole)
    assert [r.test for r in resumed.rounds] == [r.test for r in whole.rounds]
    for kind, name in (("label", "combine"), ("select", "select")):
        address = whole.rounds[1].steps[name].address
        assert table_of(config.store, kind, address).equals(table_of(other.store, kind, address))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    "parts",
    [
        (
            "recipe.labelling={students: 2, combine: {kind: label_model}, remember: 0.3}",
            "recipe.filters=[{kind: agreement}]",
            "recipe.selector={kind: class_top_k, k: 90, fill: true}",
        ),
        chaos(
            (
                "recipe.labelling={specialists: 2, combine: {kind: specialists}, views: 2}",
                "recipe.calibrators=[{kind: neighbours}, {kind: prototypes}]",
                "recipe.selector={kind: compactness}",
                "recipe.targets.weight={kind: neighbourhood}",
            )
        ),
    ],
    ids=["students", "features"],
)
def test_the_ray_engine_writes_the_tables_of_the_local_engine(make, tmp_path, weights, parts):
    settings = (
        *parts,
        checkpoint(weights, "first"),
        "recipe.policy.num_rounds=1",
    )
    local = make(*settings)
    ray = make(
        *settings, "placement.engine=ray", "placement.label_actors=2", f"store={tmp_path}/ray"
    )
    expected, record = play(local), play(ray)
    assert addresses(record) == addresses(expected)
    assert [r.test for r in record.rounds] == [r.test for r in expected.rounds]
    for each in expected.rounds:
        for name, step in each.steps.items():
            if step.kind in ("label", "select"):
                files = [Store(c.store).record(step.kind, step.address).files for c in (local, ray)]
                assert files[0] == files[1], name


def by_step(config) -> dict[tuple[int, str], str]:
    return {(round_, name): address for round_, name, address in named(plan(config))}


def test_other_bytes_of_a_foreign_checkpoint_change_its_label_step_and_what_follows(
    make, tmp_path, weights
):
    config = make(checkpoint(weights, "first"), "recipe.labelling.students=2")
    before = by_step(config)
    written(tmp_path / "weights.safetensors", 1)
    after = by_step(config)
    assert after.keys() == before.keys()
    same = [key for key in before if before[key] == after[key]]
    assert same == [(0, "train-alone"), (0, "score-alone")], "labels alone read no source"


def test_other_bytes_leave_the_steps_that_do_not_read_the_source_alone(make, tmp_path, weights):
    config = make(checkpoint(weights))
    steps = Steps(config, Dataset(config.data))
    before = {name: step.address for name, step in steps.sources(["T"]).items()}
    other = written(tmp_path / "copy.safetensors", 0)
    copied = Steps(make(checkpoint(other)), Dataset(config.data)).sources(["T"])
    assert {name: step.address for name, step in copied.items()} == before, "the path is not read"
    written(tmp_path / "weights.safetensors", 1)
    after = {name: step.address for name, step in steps.sources(["T"]).items()}
    assert after["label"] == before["label"]
    assert after["label-foreign-0"] != before["label-foreign-0"]


def test_another_version_of_a_callable_is_another_source(make):
    source = {"kind": "callable", "target": "my_labels:told", "rounds": "all"}
    found = [
        Steps(make(f"recipe.labelling.foreign=[{json.dumps(source | more)}]"), Dataset(make().data))
        .sources(())["label-foreign-0-before"]
        .address
        for more in ({}, {"version": "2"}, {"rounds": "first"}, {"target": "my_labels:other"})
    ]
    assert len(set(found)) == 3
    assert found[0] == found[2], "in which rounds it labels is not read"


@pytest.mark.parametrize(
    "settings",
    [
        ("recipe.labelling.earlier=2",),
        (VIEWS, "recipe.filters=[{kind: agreement}]"),
        ("recipe.calibrators=[{kind: prototypes}]", "recipe.labelling={earlier: 1, students: 2}"),
        ("recipe.selector={kind: reward, steps: 5}", "recipe.labelling.out_of_fold=2"),
    ],
    ids=["earlier", "views", "features", "reward"],
)
def test_what_will_be_done_is_planned_with_the_same_addresses(make, settings):
    config = make(*settings, "recipe.policy.num_rounds=3")
    planned = plan(config)
    assert same_steps(planned, play(config))
