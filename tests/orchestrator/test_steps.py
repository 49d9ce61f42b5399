"""Steps: an address covers exactly what its kind of step reads, and nothing else."""

import json
from collections.abc import Callable

import pytest

from orchestrator.address import digest
from orchestrator.config import Placement, RunConfig, Tracking
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.job import Fold
from orchestrator.loading import build_config
from orchestrator.methods import load_method, method_names
from orchestrator.reads import form_of
from orchestrator.steps import Steps
from orchestrator.store.store import Identity
from orchestrator.tasks import steps_of
from trainables.schedules import at_round

WARM_NORM = ("recipe.training.optimiser.trains=norm", "recipe.policy.start=warm")
LATER = {"train1", "train1-fold"}
TRAINING = {"train0", *LATER}
SELECTING = {"select0", "select1"}
ALL = {*TRAINING, *SELECTING, "label", "cross_label", "score", "audit"}
NUM_ROUNDS = 5


def identities(config: RunConfig) -> dict[str, Identity]:
    """Steps of each kind on the same inputs, so that only what they read themselves can differ."""
    steps = Steps(config, Dataset(config.data))
    later = {"selection": "S", "num_selected": 50, "start": None}
    selecting = {"predictions": "P", "out_of_fold": None, "previous": None}
    return {
        "train0": steps.train(0, selection=None, num_selected=0, start=None).identity,
        "train1": steps.train(1, **later).identity,
        "train1-fold": steps.train(1, **later, fold=Fold(number=0, of=2)).identity,
        "label": steps.label("T").identity,
        "cross_label": steps.cross_label(("T", "U")).identity,
        "select0": steps.select(0, **selecting).identity,
        "select1": steps.select(1, **selecting).identity,
        "score": steps.score("T").identity,
        "audit": steps.audit("S", predictions="P").identity,
    }


def addresses(config: RunConfig) -> dict[str, str]:
    return {name: identity.address for name, identity in identities(config).items()}


@pytest.fixture
def make(make_config) -> Callable[..., RunConfig]:
    def build(*overrides: str) -> RunConfig:
        return make_config(f"recipe.policy.num_rounds={NUM_ROUNDS}", *overrides)

    return build


def changed(make: Callable[..., RunConfig], *overrides: str) -> set[str]:
    """Steps whose address the overrides change."""
    before, after = addresses(make()), addresses(make(*overrides))
    return {name for name in before if before[name] != after[name]}


READ_BY = {
    "recipe.seed=1": TRAINING | SELECTING,
    "recipe.images.size=16": ALL,
    "recipe.images.channels=3": ALL,
    "recipe.student.width=16": TRAINING,
    "recipe.student.norm=group": TRAINING,
    "recipe.training.steps.first_round=31": {"train0"},
    "recipe.training.steps.base=21": LATER,
    "recipe.training.steps.passes_over_selection=1": LATER,
    "recipe.training.steps.most=1000": TRAINING,
    "recipe.training.batch.labelled=16": LATER,
    "recipe.training.batch.labelled_alone=16": {"train0"},
    "recipe.training.batch.selected=16": LATER,
    "recipe.training.batch.max_copies=3": LATER,
    "recipe.training.objective.labelled.weight=0.5": TRAINING,
    "recipe.training.objective.selected.weight=0.5": LATER,
    "recipe.training.objective.selected.normalise=weight_mass": LATER,
    "recipe.training.objective.mixup_alpha=0.5": TRAINING,
    "recipe.training.objective.weak.translate=0.2": TRAINING,
    "recipe.training.objective.strong.rotate=5": LATER,
    "recipe.training.optimiser.learning_rate=0.2": TRAINING,
    "recipe.training.optimiser.learning_rate={schedule: stepwise, values: [0.1, 0.2]}": LATER,
    "recipe.training.objective.entropy={weight: 0}": set(),
    "recipe.training.teacher.decay=0.9": TRAINING,
    "recipe.training.teacher={kind: student}": TRAINING,
    "recipe.training.precision=bfloat16": TRAINING,
    "recipe.labelling.temperature=2": {"label", "cross_label"},
    "recipe.labelling.flips=true": {"label", "cross_label"},
    "recipe.labelling.precision=bfloat16": {"label", "cross_label"},
    "recipe.scoring.views=2": {"score"},
    "recipe.scoring.flips=true": {"score"},
    "recipe.labelling.out_of_fold=2": set(),
    "recipe.labelling.students=3": set(),
    "recipe.labelling.checkpoints=[0.5]": {"train0", "train1"},
    "recipe.extension={per_class: 3}": LATER,
    "recipe.ranking=agreement recipe.labelling.students=2": SELECTING,
    "recipe.labelling.passes=3 recipe.student.dropout=0.1": TRAINING | {"label", "cross_label"},
    "recipe.labelling.views=3": {"label", "cross_label"},
    "recipe.labelling.combine={kind: choose}": set(),
    "recipe.filters=[{kind: agreement}] recipe.labelling.students=2": SELECTING,
    "recipe.calibrators=[{kind: align}]": SELECTING,
    "recipe.selector.share=0.4": SELECTING,
    "recipe.selector.least_confidence=0.1": SELECTING,
    "recipe.selector={kind: everything}": SELECTING,
    "recipe.selector.share={schedule: stepwise, values: [0.5, 0.6]}": {"select1"},
    "recipe.targets.kind=soft": SELECTING,
    "recipe.targets.weight={kind: confidence}": SELECTING,
    "recipe.targets.reads=teacher": set(),  # without calibrators both are the same
    "recipe.policy.num_rounds=9": set(),
    "recipe.policy.baseline=false": set(),
    "recipe.policy.start=warm": set(),
    "recipe.policy.start=warm_body": set(),  # nothing comes before
    "recipe.policy.pool=keep": set(),
    "recipe.policy.pool=remaining": set(),  # nothing was selected before
    "recipe.policy.deliver=last": set(),
    "recipe.policy.roll_back_below=0.1": set(),
    "recipe.policy.patience_rounds=2": set(),
    "recipe.policy.label_last=false": set(),
}


@pytest.mark.parametrize("override", READ_BY)
def test_a_setting_changes_exactly_the_steps_that_read_it(make, override):
    first, *further = override.split(" recipe.")
    overrides = (first, *(f"recipe.{text}" for text in further))
    assert changed(make, *overrides) == READ_BY[override]


def test_every_part_of_a_recipe_is_in_the_table_above(make):
    parts = {text.split("=")[0].split(".")[1] for text in READ_BY}
    assert parts == set(make().recipe.plain()) - {"task"}  # which is that of the data set
    policy = {text.split("=")[0].split(".")[2] for text in READ_BY if ".policy." in text}
    assert policy == set(make().recipe.policy.plain())


PLACED = {
    "engine": "ray",
    "ray_address": "auto",
    "train_workers": 3,
    "least_train_workers": 1,
    "label_actors": 7,
    "gpus_per_worker": 0.5,
    "use_gpu": True,
    "cpus_per_worker": 2.0,
    "threads": 2,
    "rows_per_pass": 8,
    "label_rows_per_pass": 17,
    "checkpoint_every_s": 1.0,
    "retries": 0,
    "most_refused_share": 0.5,
}
TRACKED = {"wandb": "online", "project": "other", "group": "g", "tags": ["t"]}


@pytest.mark.parametrize(
    "override",
    [f"placement.{name}={json.dumps(value)}" for name, value in PLACED.items()]
    + [f"tracking.{name}={json.dumps(value)}" for name, value in TRACKED.items()]
    + ["name=other", "store=elsewhere", "runs=elsewhere"],
)
def test_placement_tracking_and_names_change_no_address(make, override):
    assert make(override) != make()
    assert changed(make, override) == set()


def test_the_list_of_what_changes_no_address_is_whole():
    assert set(PLACED) == set(Placement.model_fields)
    assert set(TRACKED) == set(Tracking.model_fields)


def test_the_method_that_a_recipe_came_from_changes_no_address(make):
    config = make()
    renamed = config.model_copy(update={"method": "supervised"})
    assert addresses(renamed) == addresses(config)


SCHEDULES = {
    "linear": "{schedule: linear, start: 0.2, end: 0.8}",
    "linear that ends early": "{schedule: linear, start: 0.2, end: 0.8, until: 0.4}",
    "cosine": "{schedule: cosine, start: 0.9, end: 0.1}",
    "sigmoid ramp": "{schedule: sigmoid_ramp, end: 0.7}",
    "stepwise": "{schedule: stepwise, values: [0.1, 0.2, 0.3]}",
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("round_", range(NUM_ROUNDS))
def test_a_schedule_and_its_number_at_a_round_are_one_selection(make, schedule, round_):
    moving = make(f"recipe.selector.share={schedule}")
    number = at_round(moving.recipe.selector, round_, NUM_ROUNDS - 1).share
    fixed = make(f"recipe.selector.share={number!r}")
    one, other = (
        Steps(c, Dataset(c.data)).select(round_, predictions="P", out_of_fold=None, previous=None)
        for c in (moving, fixed)
    )
    assert one.address == other.address
    assert one.job.selector == fixed.recipe.selector


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_and_its_number_at_a_round_are_one_training(make, schedule):
    field = "recipe.training.objective.selected.weight"
    moving = make(f"{field}={schedule}")
    number = at_round(moving.recipe.training, 1, NUM_ROUNDS).objective.selected.weight
    assert addresses(moving)["train1"] == addresses(make(f"{field}={number!r}"))["train1"]


def test_a_whole_number_and_the_same_float_are_one_address(make):
    one = make("recipe.training.objective.labelled.weight=1")
    other = make("recipe.training.objective.labelled.weight=1.0")
    assert addresses(one) == addresses(other)


def test_a_schedule_over_steps_stays_a_schedule(make):
    field = "recipe.training.objective.labelled.weight"
    moving = make(f"{field}={{schedule: linear, start: 0, end: 1, over: steps}}")
    other = make(f"{field}={{schedule: linear, start: 0, end: 0.9, over: steps}}")
    assert addresses(moving)["train0"] != addresses(other)["train0"]
    read = identities(moving)["train0"].reads["training"]["objective"]["labelled"]["weight"]
    assert read["schedule"] == "linear"


def test_the_number_of_rounds_changes_a_later_selection_only_through_a_schedule(make):
    schedule = "recipe.selector.share={schedule: linear, start: 0.2, end: 0.8}"
    before = addresses(make(schedule))
    after = addresses(make(schedule, "recipe.policy.num_rounds=9"))
    assert {name for name in before if before[name] != after[name]} == {"select1"}


def test_a_schedule_reaches_its_end_at_the_last_selection_that_is_trained_on(make):
    config = make("recipe.selector.share={schedule: linear, start: 0.2, end: 0.8}")
    steps = Steps(config, Dataset(config.data))
    shares = [
        steps.select(r, predictions="P", out_of_fold=None, previous=None).job.selector.share
        for r in range(NUM_ROUNDS)
    ]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])


def test_a_view_that_no_row_of_a_round_is_seen_in_does_not_count(make):
    strong = "recipe.training.objective.labelled.view=strong"
    weak = "recipe.training.objective.weak.translate=0.3"
    before, after = addresses(make(strong)), addresses(make(strong, weak))
    assert before == after


def test_a_consistency_term_counts_from_its_first_round_on(make):
    term = (
        "recipe.training.objective.consistency={first_round: 1}",
        "recipe.training.batch.pool=8",
    )
    assert changed(make, *term) == LATER
    from_start = ("recipe.training.objective.consistency={first_round: 0}", term[1])
    assert changed(make, *from_start) == TRAINING
    early, late = addresses(make(*from_start)), addresses(make(*term))
    assert early["train1"] == late["train1"]


def test_a_consistency_term_reads_the_pool_and_both_views(make):
    term = (
        "recipe.training.objective.consistency={first_round: 0}",
        "recipe.training.batch.pool=8",
    )
    config = make(*term)
    assert identities(config)["train0"].inputs["pool"] == Dataset(config.data).manifest.pool.digest
    strong = addresses(make(*term, "recipe.training.objective.strong.rotate=5"))
    assert strong["train0"] != addresses(config)["train0"]


def test_inputs_and_folds_change_the_address_of_what_reads_them(make):
    config = make()
    steps = Steps(config, Dataset(config.data))
    found = [
        steps.train(1, selection=selection, num_selected=5, start=start, fold=fold).address
        for selection in ("S", "R")
        for start in (None, "T")
        for fold in (None, Fold(number=0, of=2), Fold(number=1, of=2), Fold(number=0, of=3))
    ]
    assert len(set(found)) == len(found)


def test_rounds_that_train_on_the_same_rows_draw_other_numbers(make):
    config = make()
    steps = Steps(config, Dataset(config.data))
    one, other = (steps.train(r, selection="S", num_selected=5, start=None) for r in (1, 2))
    assert one.job.seed != other.job.seed
    assert one.address != other.address


def test_a_job_carries_the_address_of_its_identity(make):
    config = make()
    steps = Steps(config, Dataset(config.data))
    step = steps.train(0, selection=None, num_selected=0, start=None)
    assert step.job.address == step.identity.address == step.address
    assert step.kind == "train"
    assert step.job.num_steps == config.recipe.training.steps.first_round


@pytest.mark.parametrize("method", method_names())
def test_the_identity_of_every_methods_steps_survives_its_record(method, digits, dots):
    data = dots if load_method(method).recipe.task == "landmarks" else digits
    config = build_config({"name": "a", "data": str(data), "method": method})
    steps = steps_of(config, Dataset(config.data))
    found = [
        steps.train(0, selection=None, num_selected=0, start=None),
        steps.train(1, selection="S", num_selected=50, start=None),
        *steps.sources(["T"] * steps.members).values(),
        steps.select(0, predictions="P", out_of_fold=None, previous=None),
        steps.score("T"),
        steps.audit("S", predictions="P"),
    ]
    for step in found:
        assert step.identity.reads["task"] == Dataset(config.data).task.plain()
        assert digest(json.loads(json.dumps(step.identity.plain()))) == step.address


def test_a_round_that_begins_with_trained_weights_trains_the_named_layers_alone(make):
    config = make(*WARM_NORM)
    steps = Steps(config, Dataset(config.data))
    anew = steps.train(0, selection=None, num_selected=0, start=None).job
    warm = steps.train(1, selection="S", num_selected=50, start="T").job
    assert (anew.training.optimiser.trains, warm.training.optimiser.trains) == ("all", "norm")


def test_images_keep_the_form_of_the_data_unless_the_recipe_gives_one(make):
    data = Dataset(make().data)
    assert form_of(make(), data).plain() == {"fit": "crop", "size": 8, "channels": 1}
    form = form_of(make("recipe.images={size: 12, channels: 3}"), data)
    assert form.plain() == {"fit": "crop", "size": 12, "channels": 3}


def test_images_of_several_sizes_need_a_size_from_the_recipe(make):
    data = Dataset(make().data)
    data.manifest = data.manifest.model_copy(update={"size": None})
    with pytest.raises(ConfigError, match="recipe.images.size is needed"):
        Steps(make(), data)
    assert form_of(make("recipe.images.size=12"), data).size == 12


def timm_checkpoint(make, path) -> str:
    student = {"kind": "timm", "name": "resnet18", "checkpoint": str(path)}
    return addresses(make(f"recipe.student={json.dumps(student)}"))["train0"]


def test_a_local_checkpoint_enters_an_address_by_its_content_not_its_path(make, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    before = timm_checkpoint(make, first)
    assert timm_checkpoint(make, second) == before
    first.write_bytes(b"other weights")
    assert timm_checkpoint(make, first) != before


def test_a_representation_counts_with_its_consistency_term(make):
    term = [
        "recipe.training.objective.consistency={first_round: 1}",
        "recipe.training.batch.pool=8",
    ]
    plain = addresses(make(*term))
    turned = addresses(make(*term, "recipe.training.objective.representation.turns={}"))
    assert turned["train0"] == plain["train0"]
    assert turned["train1"] != plain["train1"]


def test_a_checkpoint_that_is_not_there_is_refused_with_its_path(make, tmp_path):
    with pytest.raises(ConfigError, match="recipe.student.checkpoint: .*nowhere"):
        timm_checkpoint(make, tmp_path / "nowhere.pt")


def test_more_workers_than_labelled_rows_of_a_batch_are_refused_before_anything_starts(make):
    with pytest.raises(ConfigError, match="train_workers is 40, but a batch holds 32"):
        addresses(make("placement.train_workers=40"))
