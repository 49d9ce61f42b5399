"""Method: a named recipe with its source."""

from orchestrator.config import AnyRecipe
from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.recipe import Recipe
from trainables.spec import Spec


class Method(Spec):
    """A recipe that carries a name, where it comes from and where it departs from that."""

    summary: str
    """What it does, in one line."""
    source: str
    """Publication, or how the house found it."""
    departs: str = ""
    """Where the recipe departs from the publication; empty if nowhere."""
    recipe: AnyRecipe
    """The recipe itself; a config overrides any of its fields."""
    search: tuple[str, ...] = ()
    """Fragments of `search_spaces/` that a sweep of it searches unless told otherwise."""

    @property
    def acts(self) -> str:
        """Where it acts: on the stored table between rounds, in the training step, or on both."""
        rounds, batch = self.recipe.policy.num_rounds, self.recipe.training.batch
        table = rounds > 1 and bool(batch.selected)
        step = self.recipe.training.reads_pool
        return {(True, True): "table, step", (True, False): "table", (False, True): "step"}.get(
            (table, step), "labels only"
        )

    @property
    def needs(self) -> str:
        """What it needs beside the teacher's beliefs about the pool; empty if nothing."""
        recipe = self.recipe
        return ", ".join(_needs(recipe) if isinstance(recipe, Recipe) else _point_needs(recipe))


def _point_needs(recipe: LandmarkRecipe) -> list[str]:
    if recipe.training.two_sources is not None:
        return ["a second network", "video clips or two views"]
    return ["two views"] if recipe.training.reads_pool else []


def _needs(recipe: Recipe) -> list[str]:
    parts = (recipe.selector, *recipe.calibrators)
    found = []
    if recipe.policy.num_rounds > 1 and any(part.needs_labelled for part in parts):
        found.append("labelled rows out of fold")
    if recipe.training.reads_pool:
        found.append("two views")
    representation = recipe.training.objective.representation
    if representation is not None and representation.embedding is not None:
        found.append("a memory of features")
    if recipe.training.partner is not None:
        found.append("a second network")
    if recipe.labelling.students > 1:
        found.append(f"{recipe.labelling.students} students")
    if recipe.labelling.specialists:
        found.append(f"{recipe.labelling.specialists} specialists")
    if recipe.labelling.passes > 1:
        found.append("dropout")
    if recipe.policy.num_rounds > 1 and recipe.reads_features:
        found.append("features")
    return found
