"""What a network says of decoded rows, whatever their task."""

import pyarrow as pa
import torch
from torch import nn

from orchestrator.jobs.decoded import Decoded
from orchestrator.jobs.point_labelling import points_in
from orchestrator.jobs.predicting import ROWS_IN_PASSES, predict, predict_in_passes
from orchestrator.recipe import LabellingSpec, ScoringSpec
from trainables import schemas
from trainables.landmarks.found import Asked
from trainables.tasks.kinds import Points, TaskSpec

LANDMARK_ROWS = 64
"""Rows of one pass of a landmark network, which has large maps."""


def tell(
    model: nn.Module,
    decoded: Decoded,
    task: TaskSpec,
    how: ScoringSpec,
    device: torch.device,
    temperature: float = 1.0,
) -> pa.Table:
    """Rows of the task's prediction table, in float32; the same rows in the same order, the same.

    Raises:
        DataError: The network returns numbers that are not finite.
    """
    if isinstance(task, Points):
        found_by = Asked(flips=how.flips, views=how.views, view=how.view)
        return points_in(model, decoded, found_by, task, rows_per_pass=LANDMARK_ROWS, device=device)
    num, asked = task.num_names, LabellingSpec(temperature=temperature, **dict(how))
    if how.views == 1:
        found = predict(model, decoded, asked, ROWS_IN_PASSES, device, num)
    else:
        found = predict_in_passes(model, decoded, asked, device, num, seed=0)
    return found.to_table(schemas.predictions(num))
