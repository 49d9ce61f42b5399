"""Laws that every method found by name keeps."""

import ast
from pathlib import Path

import numpy as np
import pytest
import yaml

from orchestrator import methods
from orchestrator.errors import ConfigError
from orchestrator.loading import build_config
from orchestrator.method import Method
from orchestrator.methods import load_method, method_names
from orchestrator.store.store import Store
from tests.orchestrator.helpers import play, table_of
from trainables.beliefs import Beliefs
from trainables.landmarks.tables import pairs_of

FOLDER = Path(methods.__file__).parent
MOST_LINES = 100
UNSURE = {
    "csa",
    "expert_choice",
    "landmark_pseudo_label",
    "noisy_student",
    "pseudo_label",
    "uncertainty_aware",
}
"""Methods whose thresholds (0.3 to 0.95) no row may reach after two dozen steps."""


@pytest.fixture(params=method_names())
def name(request) -> str:
    return request.param


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""


def test_every_file_of_the_folder_is_a_method():
    assert method_names() == sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "__init__")
    assert "supervised" in method_names()


def test_a_method_loads_with_a_summary_and_a_source(name):
    method = load_method(name)
    assert isinstance(method, Method)
    assert method.summary.strip()
    assert method.source.strip()


def test_a_method_names_its_source_in_its_file(name):
    assert "Source:" in docstring(name)


def test_a_method_says_in_its_file_that_it_departs_exactly_if_it_does(name):
    assert ("Departs from the paper:" in docstring(name)) == bool(load_method(name).departs)


def test_a_recipe_survives_yaml(name):
    recipe = load_method(name).recipe
    assert type(recipe).model_validate(yaml.safe_load(yaml.safe_dump(recipe.plain()))) == recipe


def test_a_method_fits_on_a_page(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < MOST_LINES


def test_a_method_says_where_it_acts_and_what_it_needs():
    told = {name: (load_method(name).acts, load_method(name).needs) for name in method_names()}
    assert told["supervised"] == ("labels only", "")
    assert told["noisy_student"] == ("table", "")
    assert told["fixmatch"] == ("step", "two views")
    assert told["crest"] == ("table, step", "two views")


def test_a_method_of_your_own_is_loaded_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "my_methods.py").write_text(
        "from orchestrator.method import Method\n"
        "from orchestrator.recipe import Recipe\n"
        "MINE = Method(summary='mine', source='me', recipe=Recipe(seed=7))\n"
        "OTHER = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_method("my_methods:MINE").recipe.seed == 7
    with pytest.raises(ConfigError, match="'my_methods:OTHER' is a int, not a Method"):
        load_method("my_methods:OTHER")


@pytest.mark.parametrize("text", ["no_such_module_at_all:METHOD", "orchestrator.recipe:METHOD"])
def test_a_method_that_is_nowhere_can_not_be_loaded(text):
    with pytest.raises(ConfigError, match="can't be loaded"):
        load_method(text)


def test_an_unknown_name_gives_the_nearest_and_all_others():
    with pytest.raises(ConfigError, match="did you mean 'noisy_student'.*supervised"):
        load_method("noisy_studnet")


def two_short_rounds(name: str, data: Path, tmp_path: Path):
    """A method's first two rounds with its own students, passes, batches and thresholds."""
    recipe = load_method(name).recipe
    overrides = [
        "recipe.student.width=8",
        "recipe.training.steps={first_round: 24, base: 12}",
        f"recipe.policy.num_rounds={min(2, recipe.policy.num_rounds)}",
    ]
    if recipe.training.teacher.kind == "ema":  # one that follows within so few steps
        overrides.append("recipe.training.teacher.decay=0.5")
    tree = {
        "name": "short",
        "method": name,
        "data": str(data),
        "store": str(tmp_path / "store"),
        "runs": str(tmp_path / "runs"),
        "placement": {"engine": "local"},
        "tracking": {"wandb": "disabled"},
    }
    return build_config(tree, overrides)


@pytest.mark.slow
def test_a_method_plays_two_short_rounds(name, digits, dots, tmp_path):
    points = load_method(name).recipe.task == "landmarks"
    config = two_short_rounds(name, dots if points else digits, tmp_path)
    record, store = play(config), Store(config.store)
    assert record.status == "finished"
    empty = record.stopped.startswith("the selection is empty")
    assert len(record.rounds) == config.recipe.policy.num_rounds or (empty and name in UNSURE)
    for each in record.rounds:
        assert np.isfinite([*each.validation.values(), *each.test.values()]).all()
        for step in each.steps.values():
            if step.kind == "label" and points:
                found = table_of(config.store, "label", step.address)
                assert len(found) == 32
                assert np.isfinite(pairs_of(found, "label")).all()
            elif step.kind == "label":
                told = Beliefs.of_table(table_of(config.store, "label", step.address))
                assert len(told) == 1047
                assert np.exp(told.log_probs).sum(axis=1) == pytest.approx(np.ones(1047), abs=1e-4)
                if told.doubt is not None:
                    assert np.isfinite([told.doubt.agreement, told.doubt.spread]).all()
            elif step.kind == "train":
                losses = store.record("train", step.address).metrics["loss"].values()
                assert np.isfinite(list(losses)).all()
            elif step.kind == "select":
                chosen = table_of(config.store, "select", step.address)
                weights = chosen["weight"].to_numpy()
                assert ((weights > 0) & (weights <= 1)).all()
                assert chosen.num_rows > 0 or name in UNSURE
