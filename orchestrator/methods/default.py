"""Default: placeholder until measured."""

from orchestrator.method import Method
from orchestrator.recipe import Recipe

METHOD = Method(summary="d", source="d", recipe=Recipe())
