"""Every method's space holds a part of its own, and nothing that its trials do not read."""

import numpy as np
import pytest

from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.methods import load_method
from orchestrator.recipe import Recipe
from orchestrator.sweep.paths import look
from orchestrator.sweep.study import draw
from search_spaces import read_fragment
from tests.search_spaces.test_fragments import SEARCHING, space_of_method
from trainables.beliefs import Beliefs
from trainables.pseudo_labels import StepRows, fit_in_step
from trainables.schedules import Moment
from trainables.selectors.rules import Labelled
from trainables.selectors.running import Memory, Running
from trainables.worker import Worker

SHARED = {"policy", "rounds", "teacher", "training"}
"""Fragments that say how any method trains, not what it is about."""
BASELINES = {"landmark_supervised"}
"""Methods without a part of their own."""
SIZES = {"recipe.training.batch", "recipe.training.steps"}
"""Parts that say how much is trained on."""
PLAIN = {"classification": Recipe().plain(), "landmarks": LandmarkRecipe().plain()}
CONSISTENCY = "recipe.training.objective.consistency"
MEMORY = f"{CONSISTENCY}.memory.decay"
TRANSPORT = "recipe.calibrators.transport"
CLASSES, ROWS = 3, 60


def own_dimensions(method: str) -> list[str]:
    """What is searched, at the method's own values, of parts that are its own.

    A part is what holds a field: `recipe.targets.weight` of `recipe.targets.weight.alpha`. It is
    the method's own if its recipe has it otherwise than the recipe without any settings has, and
    no fragment that all methods share searches it.
    """
    space = space_of_method(method)
    plain = {"recipe": PLAIN[space.base.recipe.task]}
    mine = {"recipe": space.base.recipe.plain()}
    named = [name for name in load_method(method).search if name not in SHARED]
    searched = {path for name in named for path in read_fragment(name)} & set(space.defaults())
    parts = {path: part_of(path) for path in searched}
    return [path for path, part in parts.items() if part and look(mine, part) != look(plain, part)]


def part_of(path: str) -> str:
    """What holds a field, or a field of the recipe itself; empty if it only sizes a batch."""
    holder = path.rpartition(".")[0]
    return "" if holder in SIZES else path if holder == "recipe" else holder


@pytest.mark.parametrize("method", sorted(set(SEARCHING) - BASELINES))
def test_a_method_searches_at_least_one_field_of_a_part_of_its_own(method):
    assert own_dimensions(method)


def test_a_field_of_a_part_that_every_recipe_has_alike_is_not_a_methods_own():
    assert "recipe.targets.weight.alpha" in own_dimensions("covar")
    assert "recipe.training.optimiser.weight_decay" not in own_dimensions("covar")
    assert not any(path.startswith("recipe.calibrators") for path in own_dimensions("default"))


# ---- nothing is searched that is not read


def reads_memory(recipe) -> bool:
    """Whether a step's labels, or what it learns beside them, follow from batches before it."""
    term, beside = recipe.training.objective.consistency, recipe.training.objective.representation
    told = any(each.needs_pool for each in term.calibrators)
    ranked = term.selector.kind in (
        "class_rate",
        "class_share",
        "class_top_k",
        "equal_rate",
        "even_share",
        "free_threshold",
        "mixture_threshold",
        "top_share",
    )
    weighed = term.targets.weight.kind in ("gaussian", "inverse_class", "self_paced")
    kept = beside is not None and (
        beside.shrunk is not None or getattr(beside.refine, "class_temperature", None) is not None
    )
    return told or ranked or weighed or kept or term.fairness != 0


def plan_of(recipe) -> str:
    return next(each.plan for each in recipe.calibrators if each.kind == "transport")


def aligned_to(chain) -> str:
    return next(each.target for each in chain if each.kind == "align")


READ_WHERE = {
    MEMORY: reads_memory,
    f"{CONSISTENCY}.targets.temperature": lambda r: (
        r.training.objective.consistency.targets.kind == "soft"
    ),
    f"{CONSISTENCY}.normalise": lambda r: (
        r.training.objective.consistency.selector.kind != "everything"
    ),
    f"{CONSISTENCY}.calibrators.align.power": lambda r: (
        aligned_to(r.training.objective.consistency.calibrators) == "labelled"
    ),
    "recipe.calibrators.align.power": lambda r: aligned_to(r.calibrators) != "uniform",
    "recipe.calibrators.align.power.start": lambda r: aligned_to(r.calibrators) != "uniform",
    "recipe.calibrators.align.power.end": lambda r: aligned_to(r.calibrators) != "uniform",
    f"{TRANSPORT}.epsilon": lambda r: plan_of(r) != "refine",
    f"{TRANSPORT}.slack": lambda r: plan_of(r) == "allocation",
    f"{TRANSPORT}.share.schedule": lambda r: plan_of(r) in ("partial", "allocation"),
    "recipe.targets.temperature": lambda r: r.targets.kind == "soft",
    "recipe.training.objective.selected.normalise": lambda r: r.targets.weight.kind != "one",
    "recipe.labelling.students": lambda r: r.policy.num_rounds > 1,
    "recipe.labelling.combine.multiplicity": lambda r: (
        r.labelling.combine.model in ("one_coin", "triplets")
    ),
    "recipe.labelling.remember": lambda r: r.policy.num_rounds > 2,
    "recipe.policy.start": lambda r: r.policy.num_rounds > 1,
    "recipe.policy.pool": lambda r: r.policy.num_rounds > 2 and r.training.batch.selected > 0,
    "recipe.training.batch.pool": lambda r: r.training.reads_pool,
    "recipe.training.batch.selected": lambda r: r.policy.num_rounds > 1,
}
"""Of fields that a recipe holds even where nothing reads them: where something does."""


@pytest.mark.parametrize("method", SEARCHING)
def test_what_is_drawn_stands_in_the_trials_recipe_and_is_read_there(method):
    space = space_of_method(method)
    for chosen in draw(space, 1, 12):
        recipe = space.config(chosen).recipe
        plain = {"recipe": recipe.plain()}
        for path, value in chosen.items():
            assert look(plain, path) == value
            assert READ_WHERE.get(path, lambda _: True)(recipe), path


@pytest.mark.parametrize("method", SEARCHING)
def test_the_memory_of_a_step_is_searched_exactly_where_it_is_read(method):
    recipe = load_method(method).recipe
    if recipe.task != "classification" or recipe.training.objective.consistency is None:
        return
    searched = {dimension.path for dimension in space_of_method(method).dimensions}
    assert (MEMORY in searched) == reads_memory(recipe)


@pytest.mark.parametrize("method", SEARCHING)
def test_another_memory_changes_a_steps_labels_only_where_it_is_searched(method):
    """Five batches of drawn beliefs, labelled by the method's own calibrators, selector, weights.

    Methods that learn something beside labels from what a step remembers are left out.
    """
    recipe = load_method(method).recipe
    term = recipe.training.objective.consistency if recipe.task == "classification" else None
    if term is None or recipe.training.objective.representation is not None:
        return
    searched = {dimension.path for dimension in space_of_method(method).dimensions}
    assert differs(labels_of(term, 0.0), labels_of(term, 0.9)) == (MEMORY in searched)


def labels_of(term, decay: float):
    """What five steps of a term accept, towards what and with which weights."""
    term = term.model_copy(update={"memory": Memory(decay=decay)})
    running = Running(CLASSES, term.memory, ROWS, stages=len(term.calibrators))
    draws, found = np.random.default_rng(0), []
    for step in range(5):
        now = Moment(step, 5).settings(term)
        told, known = beliefs(draws), beliefs(draws)
        labelled = Labelled(np.array([3, 2, 1]), known, draws.integers(CLASSES, size=ROWS))
        rows = StepRows(told, np.arange(ROWS))
        fitted = fit_in_step(
            now.calibrators, now.selector, now.targets, rows, running, labelled, Worker()
        )
        found.append(fitted.of_rows(told))
    return found


def beliefs(draws: np.random.Generator) -> Beliefs:
    logits = draws.normal(size=(ROWS, CLASSES)) * draws.uniform(1, 6) + draws.normal(size=CLASSES)
    logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return Beliefs.of_log_probs([""] * ROWS, logs.astype(np.float32))


def differs(one, other) -> bool:
    return any(not np.array_equal(a.mass(), b.mass()) for a, b in zip(one, other, strict=True))
