"""Points of rows for which a network returns what is no number."""

import numpy as np
import pytest
import torch

from orchestrator.errors import DataError
from orchestrator.jobs.decoded import Decoded
from orchestrator.jobs.point_labelling import points_in
from tests.orchestrator.dots import picture_of, places
from trainables.landmarks.found import Asked
from trainables.landmarks.network import LandmarkNetwork, LandmarkNetworkSpec, Maps, Pyramid
from trainables.tasks.kinds import Points

ROWS, TASK = 5, Points(num_points=3, mirrored=(1, 0, 2))


class BlindToDark(LandmarkNetwork):
    """Returns NaN for images that are black."""

    def forward(self, images: torch.Tensor) -> Maps:
        dark = (images.flatten(1).amax(1) == 0)[:, None, None, None]
        return Maps(*(each.masked_fill(dark, torch.nan) for each in super().forward(images)))


def told(dark: list[int], *, partly: bool):
    pixels = np.stack([picture_of(each) for each in places(ROWS, 0)])[:, None]
    pixels[dark] = 0
    frames = np.tile(np.float32([1, 0, 0]), (ROWS, 1))
    decoded = Decoded([f"row-{i}" for i in range(ROWS)], pixels, {}, frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spec = LandmarkNetworkSpec(backbone=Pyramid(width=8, norm="group"), width=16)
        model = BlindToDark(spec, 1, TASK.num_points).eval()
    device = torch.device("cpu")
    return points_in(model, decoded, Asked(), TASK, rows_per_pass=4, device=device, partly=partly)


def test_rows_of_nan_are_left_out_and_move_no_other():
    whole, part = told([], partly=True), told([1, 4], partly=True)
    assert part["example_id"].to_pylist() == ["row-0", "row-2", "row-3"]
    for name in part.column_names[1:]:
        ours, theirs = (np.array(each[name].to_pylist()) for each in (part, whole))
        np.testing.assert_array_equal(ours, theirs[[0, 2, 3]], name)


def test_where_every_row_is_asked_for_one_of_nan_is_an_error():
    with pytest.raises(DataError, match="training diverged"):
        told([1], partly=False)


def test_a_network_that_returns_nothing_but_nan_gives_no_row():
    assert told([*range(ROWS)], partly=True).num_rows == 0
