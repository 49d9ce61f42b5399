"""Landmarks: each row has named points, some of which may be unknown.

Legend: N rows, K points.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from trainables.drawing import drawn
from trainables.landmarks.metrics import distances, measure
from trainables.landmarks.network import LandmarkNetworkSpec, build_landmark_network
from trainables.landmarks.tables import floats_of, pairs_of
from trainables.models import AnyModel
from trainables.tasks.kinds import Points
from trainables.tasks.outcomes import Accepted, Changed, Judged, Shown, left_out, row_of

NEAR = 0.1
"""A point within this share of the normaliser is right; one that moved further has changed."""


@dataclass(frozen=True)
class Landmarks:
    """The task whose labels are points; each point of a row is an element."""

    spec: Points

    @property
    def num_names(self) -> int:
        return self.spec.num_points

    def network(
        self, student: AnyModel | LandmarkNetworkSpec, channels: int, size: int
    ) -> nn.Module:
        del size  # the network takes images of any size
        if not isinstance(student, LandmarkNetworkSpec):
            raise ValueError("student must be a landmark_network: the rows have points")  # noqa: TRY004 - the user named another kind
        return build_landmark_network(student, channels, self.num_names)

    def measure(self, truth: pa.Table, told: pa.Table) -> dict[str, float]:
        found, true = pairs_of(told, "label"), pairs_of(truth, "label")
        return measure(distances(found, true, self.spec.normaliser), limit=NEAR)

    def predicted(self, told: pa.Table) -> np.ndarray:
        found: np.ndarray = np.isfinite(pairs_of(told, "label")).all(axis=2).sum(axis=0)
        return found

    def accepted(self, chosen: pa.Table, told: pa.Table) -> Accepted:
        at = pc.index_in(chosen["example_id"], told["example_id"].combine_chunks())
        weights, peaks = floats_of(chosen, "weights"), floats_of(told, "peak")
        rows, names = np.nonzero(weights > 0)
        seen = np.full(weights.shape, np.nan)
        seen[pc.is_valid(at).to_numpy()] = peaks[at.drop_null().to_numpy()]
        return Accepted(names, weights[rows, names].astype(np.float64), seen[rows, names])

    def judged(self, chosen: pa.Table, truth: pa.Table) -> Judged:
        at = pc.index_in(chosen["example_id"], truth["example_id"].combine_chunks())
        known = pc.is_valid(at).to_numpy()
        found = pairs_of(chosen, "target")[known]
        true = pairs_of(truth, "label")[at.drop_null().to_numpy()]
        if not len(found):
            return Judged(np.zeros(0, np.int64), np.zeros(0, bool))
        apart = distances(found, true, self.spec.normaliser)
        there = np.isfinite(apart) & np.isfinite(found).all(axis=2)
        return Judged(np.nonzero(there)[1], apart[there] <= NEAR)

    def known(self, truth: pa.Table) -> int:
        return int(np.isfinite(pairs_of(truth, "label")).all(axis=2).sum())

    def drawn(self, pixels: np.ndarray, shown: Shown, names: tuple[str, ...]) -> np.ndarray:
        del names  # a dot's colour tells the point
        weights = np.zeros(self.num_names, np.float32)
        if shown.chosen.num_rows:
            weights = floats_of(shown.chosen, "weights")[0]
        return drawn(pixels, pairs_of(shown.told, "label")[0], weights)

    def said(
        self, example_id: str, told: pa.Table, chosen: pa.Table, names: tuple[str, ...]
    ) -> list[str]:
        row, taken = row_of(told, example_id), row_of(chosen, example_id)
        found, sure = pairs_of(row, "label")[0], floats_of(row, "peak")[0]
        weights = np.zeros(self.num_names, np.float32)
        if taken.num_rows:
            weights = floats_of(taken, "weights")[0]
        beside = self.accepted(chosen, told)
        lines = []
        for k, name in enumerate(names):
            became = left_out(name, beside.confidence[beside.names == k])
            if weights[k] > 0:
                became = f"accepted, weight {weights[k]:.3f}"
            lines.append(f"{name} at {_place(found[k])}, {sure[k]:.3f}: {became}")
        return lines

    def truth_said(self, truth: pa.Table, names: tuple[str, ...]) -> str:
        if not truth.num_rows:
            return "none"
        places = pairs_of(truth, "label")[0]
        return ", ".join(f"{n} at {_place(p)}" for n, p in zip(names, places, strict=True))

    def changed(self, now: pa.Table, before: pa.Table) -> Changed:
        at = pc.index_in(now["example_id"], before["example_id"].combine_chunks())
        there = pc.is_valid(at).to_numpy()
        ours = pairs_of(now, "label")[there]
        theirs = pairs_of(before, "label")[at.drop_null().to_numpy()]
        if not len(ours):
            return Changed(0, 0)
        apart = distances(ours, theirs, self.spec.normaliser)
        both = np.isfinite(apart) & np.isfinite(ours).all(axis=2)
        return Changed(int(both.sum()), int((apart[both] > NEAR).sum()))


def _place(point: np.ndarray) -> str:
    """A point in pixels of the stored image."""
    return f"({point[0]:.1f}, {point[1]:.1f})" if np.isfinite(point).all() else "an unknown place"
