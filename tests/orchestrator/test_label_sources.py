"""Runs whose labels come from several students, from passes, from elsewhere, or from before."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from orchestrator.console import Console
from orchestrator.data.dataset import Dataset
from orchestrator.errors import Interrupted
from orchestrator.jobs.decoded import decoded_fragment
from orchestrator.reads import form_of
from orchestrator.session import play_run
from orchestrator.steps import Steps
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, chaos, computed, play, slow, table_of
from tests.orchestrator.test_plan import named, plan, same_steps
from tests.orchestrator.test_play import ROUND, StopAt
from trainables.beliefs import DOUBT, Beliefs
from trainables.combining import LabelModel, Mean, combined

SHORT = ("recipe.training.steps={first_round: 8, base: 6}", "recipe.selector={kind: everything}")
SOURCES = """
import torch
def told(images):
    weights = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    return images.flatten(1) @ weights
def seven(images):
    return told(images)[:, :7]
def nothing(images):
    return told(images) * float("nan")
"""
FIRST = ["cross_label-before", "select-before", "audit-before"]
STUDENTS = (
    "recipe.labelling={students: 3, combine: {kind: label_model}, remember: 0.3}",
    "recipe.filters=[{kind: agreement}]",
    "recipe.training.teacher={kind: student}",  # both, so that they agree about some rows
    "recipe.training.steps={first_round: 30, base: 20}",
)
PASSES = ("recipe.labelling.passes=4", "recipe.student.dropout=0.3")


def foreign(name: str = "told", rounds: str = "first") -> str:
    source = {"kind": "callable", "target": f"my_labels:{name}", "rounds": rounds}
    return f"recipe.labelling.foreign=[{json.dumps(source)}]"


@pytest.fixture(autouse=True)
def _sources(tmp_path, monkeypatch) -> None:
    """A module of label functions on the path."""
    (tmp_path / "my_labels.py").write_text(SOURCES)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def make(make_config):
    return lambda *overrides: make_config(*SHORT, *overrides)


@pytest.fixture
def weights(tmp_path) -> str:
    """Random weights of a tiny timm network with ten outputs."""
    return written(tmp_path / "weights.safetensors", 0)


def written(path, seed: int) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), path)
    return str(path)


def checkpoint(path: str, rounds: str = "all") -> str:
    source = {"kind": "timm", "model": "test_resnet", "checkpoint": path, "num_outputs": 10}
    return f"recipe.labelling.foreign=[{json.dumps(source | {'rounds': rounds})}]"


def believed(config, record, round_: int, step: str) -> Beliefs:
    found = table_of(config.store, "label", record.rounds[round_].steps[step].address)
    return Beliefs.of_table(found)


def chosen(config, record, round_: int, step: str = "select") -> list[str]:
    address = record.rounds[round_].steps[step].address
    return table_of(config.store, "select", address)["example_id"].to_pylist()


def trained(config, record, round_: int, step: str = "train"):
    return Store(config.store).record("train", record.rounds[round_].steps[step].address)


def test_students_of_a_round_vote_remember_and_are_filtered(make):
    config = make(*STUDENTS)
    record = play(config)
    steps = ["train", "train-1", "train-2", "score", "label", "label-1", "label-2", "combine"]
    assert [list(r.steps) for r in record.rounds] == [[*steps, "select", "audit"]] * 2
    before = None
    for number in range(2):
        told = [believed(config, record, number, s) for s in ("label", "label-1", "label-2")]
        found = believed(config, record, number, "combine")
        logs = np.stack([each.log_probs for each in told])
        fitted = LabelModel().fit(logs)
        expected = combined(fitted, found.example_ids, logs, before, 0.3)
        assert np.exp(found.log_probs) == pytest.approx(np.exp(expected.log_probs), abs=1e-4)
        for name in DOUBT:
            assert (getattr(found.doubt, name) == getattr(expected.doubt, name)).all()
        agreed = found.doubt.agreement == 1
        ids = [i for i, yes in zip(found.example_ids, agreed.tolist(), strict=True) if yes]
        assert chosen(config, record, number) == ids
        assert 0 < len(ids) < 1047
        before = found.log_probs


def test_students_of_a_round_differ_and_the_first_one_is_scored(make):
    config = make(*STUDENTS)
    record = play(config)
    one, two = (believed(config, record, 0, name) for name in ("label", "label-1"))
    assert not np.array_equal(one.log_probs, two.log_probs)
    score = Store(config.store).record("score", record.rounds[0].steps["score"].address)
    assert score.identity["inputs"]["train"] == record.rounds[0].steps["train"].address


def test_warm_students_go_on_from_their_own_teacher(make):
    config = make("recipe.labelling.students=2", "recipe.policy.start=warm")
    record = play(config)
    for name in ("train", "train-1"):
        start = trained(config, record, 1, name).identity["inputs"]["start"]
        assert start == record.rounds[0].steps[name].address


def test_a_run_of_one_student_shares_the_first_of_several_in_round_zero(make):
    play(make("recipe.labelling.students=3"))
    record = play(make())
    steps = record.rounds[0].steps
    assert [name for name, step in steps.items() if step.from_store] == ["train", "score", "label"]


def test_a_foreign_source_teaches_round_zero(make):
    config = make(foreign())
    record = play(config)
    alone = ["train-alone", "score-alone"]
    assert list(record.rounds[0].steps) == ["label-foreign-0-before", *FIRST, *alone, *ROUND]
    assert list(record.rounds[1].steps) == ROUND
    inputs = trained(config, record, 0).identity["inputs"]
    assert inputs["selection"] == record.rounds[0].steps["select-before"].address
    assert trained(config, record, 0).counts["steps"] == 6, "not those of labels alone"
    assert len(chosen(config, record, 0, "select-before")) == 1047


def test_a_callable_labels_the_decoded_images(make):
    import my_labels

    config = make(foreign())
    found = believed(config, play(config), 0, "label-foreign-0-before")
    data = Dataset(config.data)
    parts = [
        decoded_fragment(data, entry, form_of(config, data)) for entry in data.manifest.pool.files
    ]
    images = torch.from_numpy(np.concatenate([part.pixels for part in parts])).float() / 255
    order = np.argsort([name for part in parts for name in part.example_ids])
    expected = torch.log_softmax(my_labels.told(images), dim=1).numpy()[order]
    assert found.log_probs == pytest.approx(expected, abs=1e-4)


def test_a_foreign_source_of_all_rounds_labels_the_pool_once(make):
    config = make(foreign(rounds="all"))
    record = play(config)
    assert list(record.rounds[1].steps) == [*ROUND[:3], "label-foreign-0", "combine", *ROUND[3:]]
    steps = record.rounds[0].steps
    labels = [steps["label-foreign-0-before"], *(r.steps["label-foreign-0"] for r in record.rounds)]
    assert len({step.address for step in labels}) == 1
    assert [step.from_store for step in labels] == [False, True, True]
    told = [believed(config, record, 1, name) for name in ("label", "label-foreign-0")]
    found = believed(config, record, 1, "combine")
    expected = Mean().log_probs(np.stack([each.log_probs for each in told]))
    assert found.log_probs == pytest.approx(expected, abs=1e-5)


def test_schedules_begin_with_the_selection_before_round_zero(make):
    moving = "recipe.selector={kind: top_share, share: {schedule: linear, start: 0.2, end: 0.8}}"
    for source, expected in ((foreign(), [0.2, 0.5, 0.8, 0.8]), (None, [0.2, 0.8, 0.8])):
        config = make(moving, "recipe.policy.num_rounds=3", *([source] if source else []))
        record = play(config)
        early = [chosen(config, record, 0, "select-before")] if source else []
        sizes = [len(rows) for rows in [*early, *(chosen(config, record, r) for r in range(3))]]
        assert [size / 1047 for size in sizes] == pytest.approx(expected, abs=2e-3)


def test_passes_with_dropout_say_how_far_they_are_apart(make):
    config = make(*PASSES, "recipe.filters=[{kind: spread, most: 0.01}]")
    record = play(config)
    found = believed(config, record, 1, "label")
    assert (found.doubt.spread > 0).all()
    held = found.doubt.spread >= 0.01
    assert 0 < held.sum() < 1047
    assert len(chosen(config, record, 1)) == 1047 - held.sum()


@pytest.mark.parametrize(
    "sources", [PASSES, slow((*PASSES, foreign(rounds="all"))), slow(STUDENTS)]
)
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


EARLIER = (
    "recipe.labelling={checkpoints: [0.34, 0.67], combine: {kind: first}}",
    "recipe.ranking=agreement",
    "recipe.selector={kind: top_share, share: 0.5}",
    "recipe.training.steps={first_round: 30, base: 20}",
    "recipe.training.teacher.decay=0.5",
)


def test_checkpoints_of_a_round_label_beside_its_end_and_the_reliable_half_is_chosen(make):
    config = make(*EARLIER)
    record = play(config)
    names = ["label", "label-at-0", "label-at-1"]
    assert list(record.rounds[0].steps) == ["train", "score", *names, "combine", "select", "audit"]
    end, *earlier = (believed(config, record, 0, name) for name in names)
    found = believed(config, record, 0, "combine")
    assert np.array_equal(found.log_probs, end.log_probs)
    agreed = 1 + sum((each.labels == end.labels).astype(int) for each in earlier)
    assert found.doubt.agreement == pytest.approx(agreed / 3)
    order = np.lexsort((-end.confidence, -agreed))
    best = sorted(end.example_ids[i] for i in order[: len(order) // 2 - 3])
    kept = set(chosen(config, record, 0))
    assert set(best) <= kept, "but for ties at the cut"
    assert len(kept) == pytest.approx(1047 / 2, abs=5)


def test_the_last_round_keeps_no_checkpoints_that_nobody_reads(make):
    config = make(*EARLIER, "recipe.policy.label_last=false")
    record = play(config)
    files = [{f.name for f in trained(config, record, number).files} for number in (0, 1)]
    assert files[0] - files[1] == {"teacher-at-0.safetensors", "teacher-at-1.safetensors"}


@pytest.mark.parametrize("question", [14, *(slow(n) for n in (2, 25, 29))])
def test_checkpoints_survive_an_interrupted_training(make, tmp_path, question):
    config = make(*EARLIER)
    with pytest.raises(Interrupted):
        play_run(config, Console(quiet=True), StopAt(question))
    resumed = play(config)
    other = config.model_copy(update={"store": str(tmp_path / "other")})
    whole = play(other)
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


@pytest.mark.parametrize("question", [4, *(slow(n) for n in (0, 2, 7, 25, 60))])
def test_stopped_anywhere_and_started_again_equals_uninterrupted(make, tmp_path, question):
    config = make(*STUDENTS[:1], foreign(rounds="all"))
    with pytest.raises(Interrupted):
        play_run(config, Console(quiet=True), StopAt(question))
    resumed = play(config)
    other = config.model_copy(update={"store": str(tmp_path / "other")})
    whole = play(other)
    assert addresses(resumed) == addresses(whole)
    assert [r.test for r in resumed.rounds] == [r.test for r in whole.rounds]
    for kind, name in (("label", "combine"), ("select", "select")):
        address = whole.rounds[1].steps[name].address
        assert table_of(config.store, kind, address).equals(table_of(other.store, kind, address))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    "parts",
    [
        (
            "recipe.labelling={students: 2, combine: {kind: label_model}, remember: 0.3}",
            "recipe.filters=[{kind: agreement}]",
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


def test_doubly_robust_training_reads_labels_made_out_of_fold(make):
    config = make("method=doubly_robust", "recipe.labelling.out_of_fold=2")
    record = play(config)
    assert "out_of_fold" not in trained(config, record, 0).identity["inputs"]
    crossed = record.rounds[0].steps["cross_label"].address
    assert trained(config, record, 1).identity["inputs"]["out_of_fold"] == crossed
    assert record.status == "finished"


def test_doubly_robust_training_of_round_zero_reads_the_labels_of_the_foreign_source(make):
    config = make("method=doubly_robust", "recipe.labelling.out_of_fold=2", foreign())
    record = play(config)
    steps = record.rounds[0].steps
    crossed = steps["cross_label-before"].address
    assert trained(config, record, 0).identity["inputs"]["out_of_fold"] == crossed
    later = trained(config, record, 1).identity["inputs"]["out_of_fold"]
    assert later == steps["cross_label"].address
    store, data = Store(config.store), Dataset(config.data)
    told = store.read_table(store.record("cross_label", crossed), "out_of_fold.parquet")
    rows = data.table(data.manifest.labelled).sort_by("example_id")
    assert told["example_id"].to_pylist() == rows["example_id"].to_pylist()
    right = np.mean(told["label"].to_numpy() == rows["label"].to_numpy())
    assert store.record("cross_label", crossed).metrics["accuracy"] == pytest.approx(right)


VIEWS = "recipe.labelling.views=3"


def test_views_of_a_row_are_averaged_and_tell_how_far_they_are_apart(make):
    plain, config = play(make()), make(VIEWS, "recipe.filters=[{kind: agreement}]")
    record = play(config)
    assert list(record.rounds[0].steps) == ROUND
    assert record.rounds[0].steps["train"].from_store
    told, alone = believed(config, record, 0, "label"), believed(make(), plain, 0, "label")
    assert set(np.unique(told.doubt.agreement.round(3)).tolist()) <= {0.0, 0.333, 0.667, 1.0}
    assert (told.doubt.spread > 0).mean() > 0
    away = np.abs(np.exp(told.log_probs) - np.exp(alone.log_probs)).sum(axis=1) / 2
    assert 0 < away.mean() < 0.7, "one of the three views is the image itself"
    ids = [i for i, a in zip(told.example_ids, told.doubt.agreement, strict=True) if a == 1]
    assert chosen(config, record, 0) == ids


def test_the_views_of_a_row_are_the_same_again_and_follow_their_settings(make, tmp_path):
    config = make(VIEWS, "recipe.policy.num_rounds=1")
    one = believed(config, play(config), 0, "label")
    other = make(VIEWS, "recipe.policy.num_rounds=1", f"store={tmp_path / 'other'}")
    assert (believed(other, play(other), 0, "label").log_probs == one.log_probs).all()
    still = "recipe.labelling.view={flip: 0, translate: 0}"
    same = make(VIEWS, still, "recipe.policy.num_rounds=1")
    found = believed(same, play(same), 0, "label")
    assert found.doubt.spread == pytest.approx(0, abs=1e-6), "three times the image itself"


def test_the_students_of_rounds_before_label_beside_the_present_one(make):
    config = make(
        "recipe.labelling.earlier=1",
        "recipe.policy.num_rounds=3",
        "recipe.filters=[{kind: agreement}]",
        "recipe.training.teacher={kind: student}",
        "recipe.training.steps={first_round: 30, base: 20}",
    )
    record, store = play(config), Store(config.store)
    for number in (1, 2):
        steps = record.rounds[number].steps
        inputs = store.record("label", steps["combine"].address).identity["inputs"]
        before = record.rounds[number - 1].steps["label"].address
        assert inputs == {"source-0": steps["label"].address, "source-1": before}
        told = [believed(config, record, at, "label") for at in (number, number - 1)]
        agree = told[0].labels == told[1].labels
        both = believed(config, record, number, "combine")
        assert (both.doubt.agreement[agree] == 1).all()
        assert set(chosen(config, record, number)) <= {
            name for name, yes in zip(both.example_ids, agree.tolist(), strict=True) if yes
        }
    assert (believed(config, record, 0, "combine").doubt.agreement == 1).all()


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


SPECIALISTS = "recipe.labelling={specialists: 2, combine: {kind: specialists}}"


def test_specialists_are_trained_on_their_classes_and_speak_of_no_other(make):
    config = make(SPECIALISTS, "recipe.policy.start=warm")
    planned, record = plan(config), play(config)
    assert same_steps(planned, record)
    steps = record.rounds[1].steps
    assert [n for n in steps if n.startswith(("train", "label"))] == [
        *("train", "train-1", "train-2"),
        *("label", "label-1", "label-2"),
    ]
    for number, classes in enumerate([(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)], 1):
        train = trained(config, record, 1, f"train-{number}")
        assert train.identity["reads"]["classes"] == list(classes)
        assert (
            train.identity["inputs"]["start"] == record.rounds[0].steps[f"train-{number}"].address
        )
        told = believed(config, record, 1, f"label-{number}")
        assert (np.isfinite(told.log_probs).all(axis=0) == np.isin(np.arange(10), classes)).all()
        assert set(told.labels) <= set(classes)
    counts = [trained(config, record, 1, n).counts for n in ("train", "train-1", "train-2")]
    for name in ("labelled_rows", "selected_rows"):
        assert counts[1][name] + counts[2][name] == counts[0][name]
    both = believed(config, record, 1, "combine")
    assert np.exp(both.log_probs).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_student_of_all_classes_is_that_of_a_run_without_specialists(make):
    play(make())
    steps = play(make(SPECIALISTS)).rounds[0].steps
    assert [name for name, step in steps.items() if step.from_store] == ["train", "score", "label"]


def test_a_lone_foreign_specialist_claims_nothing_of_classes_that_it_does_not_know(make):
    known = [[0], [1], [2], [3], [], [], [], [], [], []]
    source = {"kind": "callable", "target": "my_labels:told", "classes": known}
    config = make(
        f"recipe.labelling={{foreign: [{json.dumps(source)}], combine: {{kind: specialists}}}}",
        "recipe.policy.num_rounds=1",
    )
    record = play(config)
    assert same_steps(plan(config), record)
    told = believed(config, record, 0, "combine-before")
    probs = np.exp(told.log_probs)
    assert probs[:, 4:] == pytest.approx(0.1, abs=1e-6)
    assert probs[:, :4].sum(axis=1) == pytest.approx(0.4, abs=1e-6)
