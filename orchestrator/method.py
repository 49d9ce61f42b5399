"""Method: a named recipe with its source."""

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
    recipe: Recipe
    """The recipe itself; a config overrides any of its fields."""
    search: tuple[str, ...] = ()
    """Fragments of `search_spaces/` that a sweep of it searches unless told otherwise."""
