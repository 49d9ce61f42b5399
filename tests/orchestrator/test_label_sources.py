"""Runs whose labels come from several students, from passes, from elsewhere, or from before."""

import json

import numpy as np
import pytest
import torch

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DataError
from orchestrator.jobs.decoded import decoded_fragment
from orchestrator.jobs.training_rows import OUT_OF_FOLD
from orchestrator.reads import form_of
from orchestrator.store.store import Store
from tests.orchestrator.helpers import play
from tests.orchestrator.label_sources import (
    EARLIER,
    PASSES,
    SHORT,
    STUDENTS,
    VIEWS,
    believed,
    chosen,
    foreign,
    trained,
)
from tests.orchestrator.test_plan import plan, same_steps
from tests.orchestrator.test_play import ROUND
from trainables.beliefs import DOUBT
from trainables.combining import LabelModel, Mean, Medoid, combined

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("label_functions")]


FIRST = ["cross_label-before", "select-before", "audit-before"]


@pytest.fixture
def make(make_config):
    return lambda *overrides: make_config(*SHORT, *overrides)


@pytest.mark.parametrize("combine", [LabelModel(), Medoid(weights="triplets")], ids=str)
def test_students_of_a_round_vote_remember_and_are_filtered(make, combine):
    config = make(*STUDENTS, f"recipe.labelling.combine={json.dumps(combine.plain())}")
    record = play(config)
    steps = ["train", "train-1", "train-2", "score", "label", "label-1", "label-2", "combine"]
    assert [list(r.steps) for r in record.rounds] == [[*steps, "select", "audit"]] * 2
    before = None
    for number in range(2):
        told = [believed(config, record, number, s) for s in ("label", "label-1", "label-2")]
        found = believed(config, record, number, "combine")
        logs = np.stack([each.log_probs for each in told])
        expected = combined(combine.fit(logs), found.example_ids, logs, before, 0.3)
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


def test_rows_that_one_source_gives_no_number_are_refused_counted_and_never_selected(make):
    settings = ("placement.most_refused_share=0.2", "recipe.labelling.remember=0.3")
    config = make(foreign("part", rounds="all"), *settings)
    record = play(config)
    store = Store(config.store)
    source = store.record("label", record.rounds[0].steps["label-foreign-0"].address)
    refused = store.read_table(source, "refused.parquet").to_pylist()
    lost = {row["example_id"] for row in refused}
    assert 0 < len(lost) < 200
    assert source.counts["refused"] == len(lost)
    assert {row["reason"] for row in refused} == {"labelled with what is not a number"}
    for number, each in enumerate(record.rounds):
        assert len(believed(config, record, number, "label").example_ids) == 1047
        combine = store.record("label", each.steps["combine"].address)
        assert combine.counts["rows"] == 1047 - len(lost)
        assert combine.counts["refused"] == len(lost)
        assert not lost & set(chosen(config, record, number))
        assert len(chosen(config, record, number)) == 1047 - len(lost)


def test_too_many_rows_that_are_no_number_end_the_run(make):
    with pytest.raises(DataError, match=r"of 1047 pool rows .* what is not a number"):
        play(make(foreign("part", rounds="all")))


def test_sources_that_share_no_row_end_the_run(make):
    both = [{"kind": "callable", "target": f"my_labels:{each}"} for each in ("part", "rest")]
    sources = f"recipe.labelling.foreign={json.dumps(both)}"
    with pytest.raises(DataError, match="1047 of 1047 pool rows are refused by one label source"):
        play(make(sources, "placement.most_refused_share=0.99"))


def test_labelled_rows_that_a_foreign_source_gives_no_number_are_no_evidence(make):
    align = (
        "recipe.calibrators=[{kind: align, target: estimated}]",
        "recipe.labelling.out_of_fold=2",
    )
    config = make(foreign("rest"), *align, "placement.most_refused_share=0.99")
    record = play(config)
    table = Dataset(config.data).table(Dataset(config.data).manifest.labelled)
    store = Store(config.store)
    crossed = store.record("cross_label", record.rounds[0].steps["cross_label-before"].address)
    told = store.read_table(crossed, OUT_OF_FOLD)
    assert 0 < told.num_rows < table.num_rows
    assert sum(record.rounds[0].prior) == pytest.approx(1)


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


def test_labelled_rows_out_of_fold_are_asked_in_as_many_views_as_the_pool(make):
    folds, once = "recipe.labelling.out_of_fold=2", "recipe.policy.num_rounds=1"
    alone, viewed = make(folds, once), make(folds, once, "recipe.labelling.views=8")
    tables = []
    for config in (alone, viewed):
        address = play(config).rounds[0].steps["cross_label"].address
        store = Store(config.store)
        crossed = store.record("cross_label", address)
        tables.append(store.read_table(crossed, "out_of_fold.parquet"))
    one, eight = (np.array(t["log_probs"].to_pylist(), np.float64) for t in tables)
    assert np.exp(eight).sum(axis=1) == pytest.approx(np.ones(100), abs=1e-5)
    assert not np.allclose(one, eight, atol=1e-3)


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
