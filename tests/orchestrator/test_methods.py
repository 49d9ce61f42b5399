"""Laws that every method found by name keeps."""

import ast
from pathlib import Path

import pytest
import yaml

from orchestrator import methods
from orchestrator.errors import ConfigError
from orchestrator.method import Method
from orchestrator.methods import load_method, method_names
from orchestrator.recipe import Recipe

FOLDER = Path(methods.__file__).parent
MOST_LINES = 100


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
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(recipe.plain()))) == recipe


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
