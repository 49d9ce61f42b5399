"""Laws that every fragment found by name keeps, in every method that names it."""

import ast
from functools import cache
from pathlib import Path

import pytest

import search_spaces
from orchestrator.loading import build_config
from orchestrator.methods import load_method, method_names
from orchestrator.sweep.conditions import alternatives
from orchestrator.sweep.dimensions import Choices, Range
from orchestrator.sweep.paths import look
from orchestrator.sweep.space import resolve_space
from orchestrator.sweep.study import draw
from search_spaces import fragment_names, read_fragment

FOLDER = Path(search_spaces.__file__).parent
SEARCHING = [name for name in method_names() if load_method(name).search]


@cache
def space_of_method(name: str, *overrides: str):
    return resolve_space(build_config({"name": "x", "data": "/nowhere", "method": name}, overrides))


def test_every_yaml_file_of_the_folder_is_a_fragment():
    assert fragment_names() == sorted(path.stem for path in FOLDER.glob("*.yaml"))
    assert {"curriculum", "selection", "targets", "teacher", "training"} <= set(fragment_names())


def test_search_spaces_is_data_and_imports_nothing_but_a_reader():
    roots = set()
    for node in ast.walk(ast.parse((FOLDER / "__init__.py").read_text())):
        if isinstance(node, ast.Import):
            roots |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots == {"importlib", "typing", "yaml"}


def test_a_fragment_that_is_nowhere_is_an_error():
    with pytest.raises(FileNotFoundError):
        read_fragment("no_such_fragment")


ANY_METHOD = {"robust_losses", "selectors"}
"""Fragments that a config names itself: what they vary would be another method."""


@pytest.mark.parametrize("name", fragment_names())
def test_a_fragment_says_what_it_is_for_and_is_named_by_a_method(name):
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")
    named = {used for method in method_names() for used in load_method(method).search}
    assert (name in named) != (name in ANY_METHOD)


@pytest.mark.parametrize("method", ["default", "pseudo_label", "noisy_student"])
def test_the_rule_that_chooses_and_the_loss_may_be_searched_with_their_settings(method):
    fragments = ["selectors", "selection", "robust_losses", "losses"]
    config = build_config(
        {"name": "x", "data": "/nowhere", "method": method, "sweep": {"fragments": fragments}}
    )
    space, seen = resolve_space(config), set()
    for chosen in draw(space, 0, 60):
        recipe = space.config(chosen).recipe
        kind, loss = recipe.selector.kind, recipe.training.objective.selected.loss.kind
        assert chosen["recipe.selector.kind"] == kind
        threshold = chosen.get("recipe.selector.threshold")
        assert threshold is None or recipe.selector.threshold == threshold
        assert ("recipe.training.objective.selected.loss.q" in chosen) == (loss[:4] == "gene")
        seen |= {kind, loss}
    assert len(seen) == 10 + 3


@pytest.mark.parametrize("name", fragment_names())
def test_the_entries_of_a_fragment_are_ranges_or_choices_of_recipe_fields(name):
    for path, entry in read_fragment(name).items():
        assert path.startswith("recipe.")
        kind = Choices if "choices" in entry else Range
        asked = alternatives(kind.model_validate(entry).when)
        wanted = entry.get("when", [])
        assert list(asked) == (wanted if isinstance(wanted, list) else [wanted])


@pytest.mark.parametrize("method", SEARCHING)
def test_no_two_fragments_of_one_method_name_the_same_field(method):
    paths = [path for name in load_method(method).search for path in read_fragment(name)]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("method", SEARCHING)
def test_every_fragment_of_a_method_gives_it_something_to_search(method):
    searched = {dimension.path for dimension in space_of_method(method).dimensions}
    idle = [name for name in load_method(method).search if not searched & set(read_fragment(name))]
    assert idle == []


def test_all_methods_but_the_baseline_are_searchable():
    assert set(method_names()) - set(SEARCHING) == {"supervised"}


@pytest.mark.parametrize("method", SEARCHING)
def test_the_fragments_of_a_method_resolve_and_hold_its_own_values(method):
    """Resolving tries both ends of each range, so every extreme is a legal value of its field."""
    space = space_of_method(method)
    held = space.defaults()
    plain = space.base.plain()
    for dimension in space.dimensions:
        if space.exists(dimension, held):
            assert dimension.path in held, f"{dimension.path} can't hold the method's own value"
            assert held[dimension.path] == look(plain, dimension.path)
    assert space.config(held).recipe == space.base.recipe


@pytest.mark.parametrize("method", SEARCHING)
def test_what_is_drawn_from_the_space_of_a_method_is_a_run(method):
    space = space_of_method(method)
    seen = set()
    for chosen in draw(space, 0, 30):
        recipe = space.config(chosen).recipe
        assert recipe != space.base.recipe
        seen |= chosen.keys()
    assert {d.path for d in space.dimensions} == seen


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_curriculum_follows_the_schedule_that_a_config_takes(schedule):
    share = f"recipe.selector.share={{schedule: {schedule}, start: 0.5, end: 1.0}}"
    space = space_of_method("class_balanced_curriculum", share)
    found = {d.path.rpartition(".")[2] for d in space.dimensions if "selector.share" in d.path}
    assert found == {"start", "end"} | ({"until"} if schedule == "linear" else set())


def test_the_selection_fragment_follows_the_selector_of_a_config():
    def searched(selector: str) -> set[str]:
        space = space_of_method("pseudo_label", f"recipe.selector={selector}")
        return {d.path for d in space.dimensions if d.path.startswith("recipe.selector")}

    assert searched("{kind: threshold, threshold: 0.9}") == {"recipe.selector.threshold"}
    assert searched("{kind: class_top_k}") == {
        "recipe.selector.k",
        "recipe.selector.least_confidence",
    }
    assert searched("{kind: everything}") == set()


def test_the_memory_of_a_step_follows_the_selector_of_a_config():
    term = "recipe.training.objective.consistency"

    def searched(method: str, *overrides: str) -> bool:
        space = space_of_method(method, *(f"{term}.{each}" for each in overrides))
        return f"{term}.memory.decay" in {d.path for d in space.dimensions}

    assert searched("adsh")
    assert not searched("adsh", "selector={kind: threshold}")
    assert searched("adsh", "selector={kind: threshold}", "calibrators=[{kind: align}]")
    assert searched("freematch", "selector={kind: threshold}")  # by its fairness
    assert not searched("freematch", "selector={kind: threshold}", "fairness=0")


@pytest.mark.parametrize("method", SEARCHING)
def test_no_trial_searches_two_settings_that_do_the_same(method):
    """A threshold beside a temperature, or a term's weight beside its denominator."""
    for chosen in draw(space_of_method(method), 2, 12):
        for part in ("recipe", "recipe.training.objective.consistency"):
            threshold, soft = f"{part}.selector.threshold", f"{part}.targets.temperature"
            assert not {threshold, soft} <= set(chosen)
        for part, own in (("selected", "selected"), ("consistency", "all")):
            path = f"recipe.training.objective.{part}"
            if chosen.get(f"{path}.normalise", own) != own:
                weights = {p for p in chosen if p in (f"{path}.weight", f"{path}.weight.end")}
                assert weights == set()
