"""What label sources can't do is refused in words: by the recipe, or before anything is trained."""

import json

import pytest
import timm
from safetensors.torch import save_file

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, DataError
from orchestrator.steps import Steps
from tests.orchestrator.helpers import play, table_of
from tests.orchestrator.label_sources import PASSES, SHORT, foreign

pytestmark = pytest.mark.usefixtures("label_functions")
FILTERED = "recipe.filters=[{kind: agreement}]"


@pytest.fixture
def make(make_config):
    return lambda *overrides: make_config(*SHORT, *overrides)


def source(kind: str, **settings: object) -> str:
    return f"recipe.labelling.foreign=[{json.dumps({'kind': kind, **settings})}]"


REFUSED = {
    "filters of one source": (
        [FILTERED],
        "set labelling.students, checkpoints, passes, views, remember, earlier, or a foreign "
        "source in all rounds",
    ),
    "filters of one source after foreign ones": (
        [FILTERED, foreign(rounds="first")],
        "filter agreement reads how far label sources are apart",
    ),
    "filters over steps": (
        [
            "recipe.filters=[{kind: spread, most: {schedule: sigmoid_ramp, end: 1, over: steps}}]",
            "recipe.labelling.students=2",
        ],
        "filters.* moves over steps, which the stored table does not have",
    ),
    "passes without dropout": (
        ["recipe.labelling.passes=3"],
        "labelling.passes needs dropout in the student",
    ),
    "passes of a timm network without dropout": (
        ["recipe.labelling.passes=3", "recipe.student={kind: timm, name: resnet18}"],
        "labelling.passes needs dropout in the student",
    ),
    "one specialist": (
        ["recipe.labelling={specialists: 1, combine: {kind: specialists}}"],
        "labelling.specialists must be 0 or at least 2",
    ),
    "specialists under a mean": (
        ["recipe.labelling.specialists=2"],
        "set its combine to {kind: specialists}",
    ),
    "a foreign specialist under a mean": (
        [source("timm", model="resnet18", classes=[[0], []])],
        "set its combine to {kind: specialists}",
    ),
    "specialists in the step": (
        [
            "recipe.labelling={specialists: 2, combine: {kind: specialists}}",
            "recipe.training.batch.pool=8",
            "recipe.training.objective.consistency={}",
        ],
        "labelling.specialists can't learn from pool rows of all classes",
    ),
    "one fold": (["recipe.labelling.out_of_fold=1"], "out_of_fold must be 0 or at least 2"),
    "doubly robust without folds": (
        ["recipe.training.objective.doubly_robust={alpha: 1}"],
        "objective.doubly_robust needs labelling.out_of_fold of at least 2 folds",
    ),
    "a transport to the estimated balance without folds": (
        ["recipe.calibrators=[{kind: transport, target: estimated}]"],
        "calibrator transport needs labelling.out_of_fold of at least 2 folds",
    ),
    "no student": (["recipe.labelling.students=0"], "students"),
    "no pass": (["recipe.labelling.passes=0"], "passes"),
    "a memory of nothing else": (["recipe.labelling.remember=1"], "remember"),
    "a target without a colon": ([source("callable", target="my_labels.told")], "target"),
    "a source without a network": ([source("timm")], "model"),
    "a prototype source without embeddings": (
        [source("prototypes", model="test_resnet")],
        "embeddings",
    ),
    "an unknown kind of source": ([source("oracle", target="a:b")], "foreign"),
    "an unknown kind of combiner": (["recipe.labelling.combine={kind: best}"], "combine"),
    "an unknown filter": (["recipe.filters=[{kind: entropy}]"], "filters"),
    "a share of no transport": (
        ["recipe.calibrators=[{kind: transport, share: 0}]"],
        "share",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_recipe_refuses(make, name):
    overrides, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        make(*overrides)


@pytest.mark.parametrize(
    "settings",
    [
        ["recipe.labelling.students=2"],
        [*PASSES],
        ["recipe.labelling.remember=0.5"],
        [foreign(rounds="all")],
    ],
    ids=["students", "passes", "memory", "foreign"],
)
def test_filters_are_allowed_with_every_way_to_have_several_sources(make, settings):
    assert make(FILTERED, *settings).recipe.labelling.doubts


@pytest.mark.parametrize("field", ["checkpoint", "embeddings"])
def test_a_file_that_is_not_there_is_refused_with_its_path_before_anything_starts(
    make, tmp_path, field
):
    (tmp_path / "there").write_bytes(b"")
    files = {"checkpoint": str(tmp_path / "there"), "embeddings": str(tmp_path / "there")}
    files[field] = str(tmp_path / "nowhere.safetensors")
    config = make(source("prototypes", model="test_resnet", **files))
    steps = Steps(config, Dataset(config.data))
    for build in (lambda: steps.sources(()), steps.cross_label_foreign):
        with pytest.raises(ConfigError, match=r"recipe.labelling.foreign: .*nowhere.safetensors"):
            build()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (source("callable", target="my_labels:nobody"), "no attribute 'nobody'"),
        (source("callable", target="nowhere:told"), "No module named 'nowhere'"),
        (source("callable", target="my_labels:told", classes=[[0], [1]]), "names 2 classes"),
        (source("timm", model="test_resnett"), "Did you mean test_resnet"),
    ],
    ids=["name", "module", "map", "network"],
)
def test_a_source_that_can_not_be_loaded_is_an_error_of_the_config(make, text, reason):
    with pytest.raises(ConfigError, match=f"recipe.labelling.foreign: .*{reason}"):
        play(make(text))


def broken(tmp_path, name: str) -> str:
    (tmp_path / name).write_bytes(b"this file holds no weights")
    path = str(tmp_path / name)
    return source("timm", model="test_resnet", num_outputs=10, checkpoint=path)


def test_a_source_of_other_classes_is_an_error_of_the_config(make):
    with pytest.raises(ConfigError, match="the source has 7 outputs, the data set 10 classes"):
        play(make(foreign("seven")))


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pt"])
def test_a_broken_checkpoint_is_an_error_of_the_config(make, tmp_path, name):
    with pytest.raises(ConfigError, match="recipe.labelling.foreign"):
        play(make(broken(tmp_path, name)))


def test_a_source_whose_labels_are_no_numbers_is_told_from_a_student_that_diverged(make):
    with pytest.raises(DataError) as caught:
        play(make(foreign("nothing")))
    assert "learning_rate" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", ["first", "all"])
def test_filters_of_passes_hold_before_round_zero_too(make, rounds):
    config = make(*PASSES, "recipe.filters=[{kind: spread}]", foreign(rounds=rounds))
    assert play(config).status == "finished"


@pytest.mark.slow
def test_passes_that_are_remembered_keep_how_far_they_are_apart(make):
    config = make(*PASSES, "recipe.labelling.remember=0.3")
    record = play(config)
    tables = [
        table_of(config.store, "label", record.rounds[1].steps[name].address)
        for name in ("label", "combine")
    ]
    spreads = [table["spread"].to_numpy() for table in tables]
    assert (spreads[0] > 0).any()
    assert (spreads[1] > 0).any()


@pytest.mark.slow
def test_a_memory_that_disagrees_counts_as_a_source_that_disagrees(make):
    config = make(
        "recipe.labelling.remember=0.5", FILTERED, "recipe.training.teacher={kind: student}"
    )
    record = play(config)
    before, now = (table_of(config.store, "label", r.steps["label"].address) for r in record.rounds)
    assert not before["label"].equals(now["label"])
    assert record.rounds[1].accepted < 1047


@pytest.mark.slow
def test_passes_of_a_timm_network_with_dropout_differ(make):
    config = make(
        "recipe.labelling.passes=2",
        "recipe.student={kind: timm, name: test_resnet, drop_rate: 0.5}",
        "recipe.images={size: 32, channels: 3}",
        "recipe.training.steps={first_round: 1, base: 1}",
        "recipe.policy.num_rounds=1",
    )
    record = play(config)
    table = table_of(config.store, "label", record.rounds[0].steps["label"].address)
    assert (table["spread"].to_numpy() > 0).any()


def test_a_relative_path_means_the_same_in_every_process(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"")
    config = make(source("timm", model="test_resnet", checkpoint="weights.pt"))
    steps = Steps(config, Dataset(config.data))
    (labelling,) = steps.sources(()).values()
    assert labelling.job.source.checkpoint.is_absolute()
    assert steps.cross_label_foreign().job.sources[0].checkpoint.is_absolute()


@pytest.mark.slow
def test_fold_students_that_no_step_reads_are_not_trained(make):
    config = make("recipe.labelling.out_of_fold=2", "recipe.policy.label_last=false")
    record = play(config)
    assert [n for n in record.rounds[0].steps if "fold" in n] == ["train-fold-0", "train-fold-1"]
    assert [n for n in record.rounds[1].steps if "fold" in n] == []


ODD = """
def no_tensor(images):
    return images.flatten(1).numpy()
def no_rows(images):
    return images.mean((1, 2, 3))
def no_index(images):
    return [][3]
def no_key(images):
    return {}["key"]
"""


@pytest.mark.parametrize("name", ["no_tensor", "no_rows", "no_index", "no_key"])
def test_a_callable_that_fails_is_an_error_of_the_config_that_names_it(make, tmp_path, name):
    (tmp_path / "my_odd_labels.py").write_text(ODD)
    with pytest.raises(ConfigError, match=f"my_odd_labels:{name}"):
        play(make(source("callable", target=f"my_odd_labels:{name}")))


def test_broken_embeddings_are_an_error_of_the_config(make, tmp_path):
    files = {name: str(tmp_path / f"{name}.safetensors") for name in ("checkpoint", "embeddings")}
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), files["checkpoint"])
    (tmp_path / "embeddings.safetensors").write_bytes(b"these are no embeddings")
    with pytest.raises(ConfigError, match="recipe.labelling.foreign"):
        play(make(source("prototypes", model="test_resnet", **files)))


def test_more_specialists_than_pairs_of_classes_are_refused(make):
    config = make("recipe.labelling={specialists: 6, combine: {kind: specialists}}")
    with pytest.raises(ConfigError, match="10 classes make no parts of at least 2: lower it"):
        Steps(config, Dataset(config.data))
