"""Which steps a run has: those of its recipe's task, which must be that of its data set."""

from orchestrator.base_steps import BaseSteps
from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.landmark_steps import LandmarkSteps
from orchestrator.steps import Steps


def steps_of(config: RunConfig, data: Dataset) -> BaseSteps:
    """Builds the steps of a run.

    Raises:
        ConfigError: The recipe is of another task than the data set, or does not fit it.
    """
    ours, theirs = config.recipe.task, data.task.kind
    if ours != theirs:
        raise ConfigError(
            f"method {config.method} is for {ours}, but {config.data} holds {theirs}: choose "
            "another method ('selftrain methods' tells what each is for) or another data set"
        )
    if isinstance(config.recipe, LandmarkRecipe):
        return LandmarkSteps(config, data)
    return Steps(config, data)
