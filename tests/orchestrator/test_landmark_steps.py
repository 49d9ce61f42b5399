"""Steps of landmarks: an address covers exactly what its kind of step reads, and nothing else."""

import json

import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.landmark_steps import LandmarkSteps
from orchestrator.tasks import steps_of

ALL = {"train0", "train1", "label", "select0", "select1", "score", "audit"}
TRAINING, SELECTING = {"train0", "train1"}, {"select0", "select1"}
CONSISTENT = (
    "recipe.training.consistency={}",
    "recipe.training.batch.pool=4",
    "recipe.training.teacher={kind: ema}",
)
TWO = (
    "recipe.training.two_sources={}",
    "recipe.training.batch.pool=4",
    "recipe.training.teacher={kind: student}",
)


@pytest.fixture
def make(make_dots_config):
    return lambda *overrides: make_dots_config("recipe.policy.num_rounds=5", *overrides)


def addresses(config) -> dict[str, str]:
    """Steps of each kind on the same inputs."""
    steps = steps_of(config, Dataset(config.data))
    assert isinstance(steps, LandmarkSteps)
    selecting = {"predictions": "P", "out_of_fold": None, "previous": None}
    return {
        "train0": steps.train(0, selection=None, num_selected=0, start=None).address,
        "train1": steps.train(1, selection="S", num_selected=50, start=None).address,
        "label": steps.sources(["T"])["label"].address,
        "select0": steps.select(0, **selecting).address,
        "select1": steps.select(1, **selecting).address,
        "score": steps.score("T").address,
        "audit": steps.audit("S", predictions="P").address,
    }


def changed(make, before: tuple[str, ...], *overrides: str) -> set[str]:
    one, other = addresses(make(*before)), addresses(make(*before, *overrides))
    return {name for name in one if one[name] != other[name]}


READ_BY = {
    "recipe.seed=1": TRAINING | SELECTING,
    "recipe.images.size=64": ALL,
    "recipe.images.channels=3": ALL,
    "recipe.student.width=24": TRAINING,
    "recipe.student.stride=4": TRAINING,
    "recipe.student.backbone.norm=group": TRAINING,
    "recipe.training.steps.first_round=31": {"train0"},
    "recipe.training.steps.base=21": {"train1"},
    "recipe.training.batch.labelled=8": TRAINING,
    "recipe.training.batch.labelled_alone=7": {"train0"},
    "recipe.training.batch.selected=9": {"train1"},
    "recipe.training.objective.sigma_px=2.5": TRAINING | {"label"},
    "recipe.training.objective.centre=0.5": TRAINING,
    "recipe.training.objective.offset=0.5": TRAINING,
    "recipe.training.objective.selected=0.5": {"train1"},
    "recipe.training.objective.labelled_view.rotate=5": TRAINING,
    "recipe.training.objective.selected_view.rotate=5": {"train1"},
    "recipe.training.optimiser.learning_rate=0.01": TRAINING,
    "recipe.training.teacher.decay=0.9": TRAINING,
    "recipe.training.precision=bfloat16": TRAINING,
    "recipe.labelling.tracking=0.5": {"label"},
    "recipe.labelling.flips=true": {"label"},
    "recipe.labelling.candidates=8": {"label"},
    "recipe.labelling.precision=bfloat16": {"label"},
    "recipe.scoring.flips=true": {"score"},
    "recipe.ranking=spread": SELECTING,
    "recipe.selector.share=0.3": SELECTING,
    "recipe.selector.share={schedule: stepwise, values: [0.4, 0.6]}": {"select1"},
    "recipe.weight=confidence": SELECTING,
    "recipe.policy.num_rounds=9": {"select1"},  # a share that grows until the last round
    "recipe.policy.start=restart": set(),
    "recipe.policy.pool=keep": set(),
    "placement.label_rows_per_pass=64": set(),
    "placement.checkpoint_every_s=1": set(),
}


@pytest.mark.parametrize("override", READ_BY)
def test_a_setting_changes_exactly_the_steps_that_read_it(make, override):
    assert changed(make, (), override) == READ_BY[override]


def test_every_part_of_a_recipe_is_in_the_table_above(make):
    parts = {text.split("=")[0].split(".")[1] for text in READ_BY if text.startswith("recipe")}
    assert parts == set(make().recipe.plain()) - {"task"}  # which is that of the data set


@pytest.mark.parametrize(
    ("before", "override"),
    [
        (CONSISTENT, "recipe.training.consistency.threshold=0.5"),
        (CONSISTENT, "recipe.training.consistency.strong.rotate=5"),
        (TWO, "recipe.training.two_sources.queue=3"),
        (TWO, "recipe.training.two_sources.reach=2"),
        (TWO, "recipe.training.two_sources.calm_rate=null"),
    ],
)
def test_what_is_learned_from_the_pool_changes_trainings_alone(make, before, override):
    assert changed(make, (), *before) == TRAINING
    assert changed(make, before, override) == TRAINING


@pytest.mark.parametrize("before", [CONSISTENT, TWO])
def test_a_training_that_draws_pool_rows_reads_the_pool(make, before):
    for overrides in ((), before):
        config = make(*overrides)
        data = Dataset(config.data)
        train = steps_of(config, data).train(0, selection=None, num_selected=0, start=None)
        pool = data.manifest.pool.digest if overrides else None
        assert train.identity.inputs.get("pool") == pool


def test_a_checkpoint_enters_an_address_by_its_content_not_its_path(make, tmp_path):
    def address(path) -> str:
        return addresses(make(f"recipe.student.checkpoint={json.dumps(str(path))}"))["train0"]

    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    before = address(first)
    assert address(second) == before
    first.write_bytes(b"other weights")
    assert address(first) != before


def test_the_points_of_the_data_are_read_by_every_step(make, tmp_path):
    config = make()
    data = Dataset(config.data)
    before = addresses(config)
    task = data.task.model_copy(update={"normaliser": "box"})
    manifest = data.manifest.model_copy(update={"task": task})
    data.manifest = manifest
    after = steps_of(config, data)
    assert after.score("T").address != before["score"]
    assert after.train(0, selection=None, num_selected=0, start=None).address != before["train0"]
