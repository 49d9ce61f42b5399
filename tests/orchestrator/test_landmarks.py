"""Whole runs whose rows have points: the laws that runs of any task keep, on small pictures."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.config import RunConfig
from orchestrator.console import Console
from orchestrator.data.dataset import Dataset, PrepareSpec, points_of
from orchestrator.data.prepare import prepare
from orchestrator.errors import ConfigError, Interrupted
from orchestrator.explaining_rows import explain_row
from orchestrator.plan import plan_run
from orchestrator.runs import RunRecord
from orchestrator.session import play_run
from orchestrator.signals import StopRequest
from orchestrator.store.store import Store
from orchestrator.sweep.opening import open_sweep
from orchestrator.sweep.session import play_sweep
from orchestrator.sweep.study import Study
from tests.orchestrator.dots import SIDE, write_dots
from tests.orchestrator.helpers import addresses, chaos, computed, play, table_of
from tests.orchestrator.test_play import StopAt
from tests.orchestrator.tracking.wandb_files import offline_files
from trainables.landmarks.tables import floats_of, pairs_of

pytestmark = pytest.mark.slow

ROUNDS = (
    "recipe.policy.num_rounds=2",
    "recipe.training.batch.selected=6",
    "recipe.training.steps.base=4",
    "recipe.labelling.views=2",
    "recipe.ranking=consistency",
)
TSAL = (
    "recipe.training.batch.pool=4",
    "recipe.training.steps.first_round=5",
    "recipe.policy.label_last=true",
)
METHODS = {"landmark_rounds": ROUNDS, "tsal": TSAL}
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def make(make_dots_config):
    """Configs of short runs of a method, with overrides."""

    def build(method: str = "landmark_rounds", *overrides: str, **options: Path) -> RunConfig:
        return make_dots_config(*METHODS[method], *overrides, method=method, **options)

    return build


def elsewhere(config: RunConfig, store: Path) -> RunConfig:
    return config.model_copy(update={"store": str(store)})


def files(config: RunConfig, record: RunRecord) -> dict[tuple[int, str], tuple]:
    """The digests of the tables of a run."""
    store = Store(config.store)
    return {
        (r.round, name): store.record(step.kind, step.address).files
        for r in record.rounds
        for name, step in r.steps.items()
        if step.kind in ("label", "select")
    }


def tables(config: RunConfig, record: RunRecord) -> dict[tuple[int, str], list[str]]:
    """The rows of the tables of a run as texts, in which an unknown number equals itself."""
    return {
        (r.round, name): [
            repr(row) for row in table_of(config.store, step.kind, step.address).to_pylist()
        ]
        for r in record.rounds
        for name, step in r.steps.items()
        if step.kind in ("label", "select")
    }


def scores(record: RunRecord) -> list:
    return [(r.validation, r.test) for r in record.rounds]


# ---- laws of runs


@every_method
@pytest.mark.parametrize("question", [0, 3, 5, 7, 11, 12])
def test_stopped_anywhere_and_started_again_equals_uninterrupted(make, tmp_path, method, question):
    config = make(method)
    with pytest.raises(Interrupted):
        play_run(config, Console(quiet=True), StopAt(question))
    resumed = play(config)
    other = elsewhere(config, tmp_path / "other")
    whole = play(other)
    assert addresses(resumed) == addresses(whole)
    assert scores(resumed) == scores(whole)
    assert files(config, resumed) == files(other, whole)


@every_method
def test_a_run_does_exactly_the_steps_of_its_plan_and_the_plan_finds_them(make, method):
    config = make(method)
    data, store = Dataset(config.data), Store(config.store)
    before = plan_run(config, data, store)
    record = play(config)
    after = plan_run(config, data, store)
    assert sorted((p.round, p.step, p.address) for p in before) == sorted(addresses(record))
    assert not any(step.in_store for step in before)
    assert all(step.in_store for step in after)


def test_another_selector_reads_the_training_and_the_labels_that_are_there(make):
    play(make())
    asked = play(make("landmark_rounds", "recipe.selector={kind: top_share, share: 0.3}"))
    assert {name for round_, name in computed(asked) if round_ == 0} == {"select", "audit"}
    assert {name for round_, name in computed(asked) if round_ == 1} >= {"train", "label"}
    again = play(make("landmark_rounds", "recipe.selector={kind: top_share, share: 0.3}"))
    assert computed(again) == []


def resharded(folder: Path, fragment_rows: int) -> Path:
    """The dots anew, with so many rows in a fragment of the pool."""
    spec = PrepareSpec(labelled=12, validation=8, test=8, fragment_rows=fragment_rows)
    prepare(write_dots(folder / "source"), folder / f"data-{fragment_rows}", spec)
    return folder / f"data-{fragment_rows}"


@every_method
def test_the_number_of_shards_changes_no_row_of_a_table(make, tmp_path, method):
    """Shards of 16 rows and more: fewer are computed by other kernels, which round otherwise."""
    found = []
    for rows in (16, 1000):
        config = make(method, data=resharded(tmp_path, rows))
        config = elsewhere(config, tmp_path / f"store-{rows}")
        found.append(tables(config, play(config)))
    assert found[0] == found[1]


def test_small_shards_change_no_choice_and_points_by_rounding_alone(make, tmp_path):
    """In the first round: what later ones train on differs by rounding."""
    told, chosen = [], []
    for rows in (5, 7, 1000):
        config = make(data=resharded(tmp_path, rows))
        config = elsewhere(config, tmp_path / f"store-{rows}")
        steps = play(config).rounds[0].steps
        label, select = (table_of(config.store, k, steps[k].address) for k in ("label", "select"))
        told.append(pairs_of(label, "label"))
        chosen.append(dict.fromkeys(held(select)))
    assert chosen[0] == chosen[1] == chosen[2]
    assert max(np.abs(points - told[2]).max() for points in told) < 1e-3


@pytest.mark.ray
@every_method
def test_the_ray_engine_writes_the_tables_of_the_local_engine(make, tmp_path, ray_cluster, method):
    local = make(method)
    ray = elsewhere(
        make(method, "placement.engine=ray", "placement.label_actors=2"), tmp_path / "s"
    )
    expected, record = play(local), play(ray)
    assert addresses(record) == addresses(expected)
    assert files(ray, record) == files(local, expected)
    assert scores(record) == scores(expected)


@pytest.mark.ray
@pytest.mark.parametrize("method", ["landmark_rounds", chaos("tsal")])
def test_one_and_two_training_workers_agree_at_one_global_batch(
    make, tmp_path, ray_cluster, method
):
    """With group norm the only difference is the order of float sums."""
    found = []
    for workers in (0, 2):
        config = make(
            method,
            "recipe.student.backbone.norm=group",
            "recipe.training.optimiser={kind: sgd, learning_rate: 0.01}",
            "placement.engine=ray",
            f"placement.train_workers={workers}",
        )
        config = elsewhere(config, tmp_path / f"store-{workers}")
        address = play(config).rounds[0].steps["label"].address
        found.append(pairs_of(table_of(config.store, "label", address), "label"))
    apart = np.linalg.norm(found[0] - found[1], axis=2)
    assert np.median(apart) < 0.01
    assert np.mean(apart < 0.5) > 0.95, "a peak that is as high as another may change its cell"


# ---- what runs hold and report


def test_points_are_told_in_pixels_of_the_stored_images_whatever_the_networks_size(make, tmp_path):
    for size in (16, 48):
        config = make("landmark_rounds", f"recipe.images.size={size}")
        label = play(config).rounds[0].steps["label"].address
        table = table_of(config.store, "label", label)
        found = pairs_of(table, "label")
        assert ((found >= -0.5) & (found <= SIDE - 0.5)).all()
        assert found.max() > 0.8 * SIDE or size == 16
        record = Store(config.store).record("label", label)
        assert record.identity["reads"]["form"] == {"fit": "pad", "size": size, "channels": 1}


def test_the_precision_of_a_selection_is_that_of_its_points(make):
    config = make()
    record, data = play(config), Dataset(config.data)
    hidden = data.table(data.manifest.hidden)
    truth = dict(zip(hidden["example_id"].to_pylist(), points_of(hidden["label"]), strict=True))
    for each in record.rounds:
        chosen = table_of(config.store, "select", each.steps["select"].address)
        weights, targets = floats_of(chosen, "weights"), pairs_of(chosen, "target")
        true = np.array([truth[name] for name in chosen["example_id"].to_pylist()])
        near = np.linalg.norm(targets - true, axis=2) <= 0.1 * SIDE
        assert each.precision == pytest.approx(near[weights > 0].mean())
        assert each.class_rows == tuple((weights > 0).sum(axis=0).tolist())
        assert each.accepted == len(chosen)


@every_method
def test_what_became_of_each_point_of_a_row_is_told_as_the_tables_hold_it(make, method):
    config = make(method)
    record, data = play(config), Dataset(config.data)
    last = [each for each in record.rounds if "select" in each.steps][-1].steps
    chosen = table_of(config.store, "select", last["select"].address)
    name = chosen["example_id"][0].as_py()
    lines = explain_row(record, name)
    points = data.manifest.classes
    selecting = sum("select" in each.steps for each in record.rounds)
    assert len(lines) == 1 + selecting * len(points) + bool(data.manifest.hidden.files)
    taken = floats_of(chosen, "weights")[0] > 0
    told = lines[-len(points) - bool(data.manifest.hidden.files) :][: len(points)]
    assert [line.split(": ")[1].startswith("accepted") for line in told] == taken.tolist()


def test_each_point_gives_its_share_and_rows_wait_for_all_of_theirs(make):
    config = make("landmark_rounds", "recipe.selector.share=0.25")
    record = play(config)
    assert record.rounds[0].class_rows == (8, 8, 8)  # a quarter of 32 rows
    chosen = table_of(config.store, "select", record.rounds[0].steps["select"].address)
    assert 8 < len(chosen) <= 24


def test_keeping_the_pool_never_changes_a_point_once_given(make):
    config = make(
        "landmark_rounds",
        "recipe.policy.pool=keep",
        "recipe.selector.share={schedule: stepwise, values: [0.2, 0.5]}",
        "recipe.policy.num_rounds=3",
    )
    record = play(config)
    first, second = (
        table_of(config.store, "select", r.steps["select"].address) for r in record.rounds[:2]
    )
    assert held(first).items() <= held(second).items()
    assert len(held(second)) > len(held(first))


def held(table: pa.Table) -> dict[tuple[str, int], tuple[float, float]]:
    """Accepted points by row and number."""
    targets, weights = pairs_of(table, "target"), floats_of(table, "weights")
    ids = table["example_id"].to_pylist()
    return {
        (ids[row], point): tuple(targets[row, point].tolist())
        for row, point in zip(*np.nonzero(weights), strict=True)
    }


def test_a_selection_of_nothing_ends_the_run_and_says_so(make):
    record = play(make("landmark_rounds", "recipe.selector={kind: threshold, threshold: 1.0}"))
    assert len(record.rounds) == 1
    assert record.stopped.startswith("the selection is empty")


@pytest.mark.parametrize("clips", [True, False], ids=["clips", "stills"])
def test_two_sources_play_on_clips_and_on_still_images(make, tmp_path, clips):
    data = tmp_path / "data"
    source = write_dots(tmp_path / "source", stills=not clips)
    prepare(source, data, PrepareSpec(labelled=12, validation=8, test=8))
    record = play(make("tsal", data=data))
    assert record.status == "finished"
    loss = Store(make("tsal").store).record("train", record.rounds[0].steps["train"].address)
    assert np.isfinite(list(loss.metrics["loss"].values())).all()


def test_rounds_learn_where_the_dots_are(make_dots_config):
    config = make_dots_config(
        "recipe.policy.num_rounds=2",
        "recipe.training.steps={first_round: 200, base: 150}",
        "recipe.training.batch.selected=6",
    )
    first, last = play(config).rounds
    assert first.validation["score"] > 0.25
    assert last.validation["score"] > first.validation["score"] + 0.1
    assert last.precision > 0.8


# ---- what is refused


def test_a_method_of_the_other_task_is_refused_before_anything_starts(
    make_config, make_dots_config, digits, dots
):
    classes = "class_balanced_curriculum is for classification, but .* holds landmarks: choose"
    points = "landmark_rounds is for landmarks, but .* holds classification: choose"
    for config, message in (
        (make_config(data=dots), classes),
        (make_dots_config(data=digits), points),
    ):
        with pytest.raises(ConfigError, match=message):
            play(config)
        with pytest.raises(ConfigError, match=message):
            plan_run(config, Dataset(config.data), Store(config.store))
        assert list(Store(config.store).steps()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.images.size=40", "images.size is 40, .* such as 3[0-9]|such as 48"),
        ("placement.rows_per_pass=2", "rows_per_pass does not cut batches of landmarks"),
        ("placement.train_workers=7", "train_workers is 7, but a batch holds 6 labelled rows"),
    ],
)
def test_what_does_not_fit_the_data_or_the_placement_is_refused(make, override, message):
    with pytest.raises(ConfigError, match=message):
        play(make("landmark_rounds", override))


@pytest.mark.parametrize(
    "override",
    [
        "recipe.calibrators=[{kind: align}]",
        "recipe.labelling.students=2",
        "recipe.training.objective.mixup_alpha=0.5",
    ],
)
def test_a_setting_of_the_other_task_is_no_field(make, override):
    with pytest.raises(ConfigError, match="no such field"):
        make("landmark_rounds", override)


# ---- sweeps


def test_a_sweep_searches_and_ranks_by_the_score(make_dots_config):
    config = make_dots_config(
        "recipe.training.batch.selected=8",
        "recipe.training.steps={first_round: 6, base: 3}",
        "recipe.policy.num_rounds=2",
        "tracking.wandb=offline",
    )
    spec = {
        "trials": 2,
        "sampler": "random",
        "fragments": [],
        "space": {"recipe.selector.share.start": {"low": 0.2, "high": 0.6}},
    }
    config = type(config).model_validate(config.plain() | {"sweep": spec})
    record, folder = play_sweep(config, Console(quiet=True), StopRequest())
    opened = open_sweep(config)
    trials = Study(opened.folder, opened.name, opened.spec, opened.space).trials()
    assert record.status == "finished"
    assert len(trials) == 2
    assert all(0 <= value <= 1 for trial in trials for value in trial.values)
    assert len(offline_files(folder)) == 3, "a run of W&B for each trial and one for the sweep"
