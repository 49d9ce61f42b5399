"""Classification: each row has one class.

Legend: N rows, C classes.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from trainables.beliefs import Beliefs
from trainables.drawing import captioned
from trainables.landmarks.network import LandmarkNetworkSpec
from trainables.models import AnyModel, build
from trainables.tasks.kinds import Classes
from trainables.tasks.outcomes import Accepted, Changed, Judged, Shown, left_out, row_of


@dataclass(frozen=True)
class Classification:
    """The task whose labels are classes; a row is one element, named by its class."""

    spec: Classes

    @property
    def num_names(self) -> int:
        return self.spec.num_classes

    def network(
        self, student: AnyModel | LandmarkNetworkSpec, channels: int, size: int
    ) -> nn.Module:
        if isinstance(student, LandmarkNetworkSpec):
            raise ValueError("student is a landmark network, but the rows have classes")  # noqa: TRY004 - the user named another kind
        return build(student, channels, size, self.num_names)

    def measure(self, truth: pa.Table, told: pa.Table) -> dict[str, float]:
        labels = truth["label"].to_numpy().astype(np.int64)
        return measure(labels, Beliefs.of_table(told).log_probs)

    def predicted(self, told: pa.Table) -> np.ndarray:
        return np.bincount(told["label"].to_numpy(), minlength=self.num_names)

    def accepted(self, chosen: pa.Table, told: pa.Table) -> Accepted:
        at = pc.index_in(chosen["example_id"], told["example_id"].combine_chunks())
        labels, sure = chosen["label"].to_numpy().astype(np.int64), np.full(len(at), np.nan)
        there = pc.is_valid(at).to_numpy()
        logs = Beliefs.of_table(told).log_probs[at.drop_null().to_numpy(), labels[there]]
        sure[there] = np.exp(logs).clip(0, 1)
        return Accepted(labels, chosen["weight"].to_numpy().astype(np.float64), sure)

    def judged(self, chosen: pa.Table, truth: pa.Table) -> Judged:
        at = pc.index_in(chosen["example_id"], truth["example_id"].combine_chunks())
        known = pc.is_valid(at).to_numpy()
        labels = chosen["label"].to_numpy().astype(np.int64)[known]
        return Judged(labels, labels == truth["label"].take(at.drop_null()).to_numpy())

    def known(self, truth: pa.Table) -> int:
        return int(truth.num_rows)

    def drawn(self, pixels: np.ndarray, shown: Shown, names: tuple[str, ...]) -> np.ndarray:
        of_what = shown.chosen if shown.chosen.num_rows else shown.told
        label = int(of_what["label"][0].as_py())
        sure = float(np.exp(Beliefs.of_table(shown.told).log_probs[0, label]))
        accepted = "" if shown.chosen.num_rows else " (not accepted)"
        right = None
        if shown.truth is not None and shown.truth.num_rows:
            right = int(shown.truth["label"][0].as_py()) == label
        return captioned(pixels, f"{names[label]} {sure:.2f}{accepted}", right=right)

    def said(
        self, example_id: str, told: pa.Table, chosen: pa.Table, names: tuple[str, ...]
    ) -> list[str]:
        beliefs, taken = Beliefs.of_table(row_of(told, example_id)), row_of(chosen, example_id)
        order = np.argsort(-beliefs.log_probs[0], kind="stable")
        line = f"{names[order[0]]} {beliefs.confidence[0]:.3f}"
        if len(order) > 1:
            line += f", then {names[order[1]]} {np.exp(beliefs.log_probs[0, order[1]]):.3f}"
        if beliefs.doubt is not None:
            line += f"; {beliefs.doubt.agreement[0]:.0%} of its sources agree"
        if taken.num_rows:
            label, weight = (taken[name][0].as_py() for name in ("label", "weight"))
            return [line, f"accepted as {names[label]}, weight {weight:.3f}"]
        beside = self.accepted(chosen, told)
        return [line, left_out(names[order[0]], beside.confidence[beside.names == order[0]])]

    def truth_said(self, truth: pa.Table, names: tuple[str, ...]) -> str:
        return names[truth["label"][0].as_py()] if truth.num_rows else "none"

    def changed(self, now: pa.Table, before: pa.Table) -> Changed:
        at = pc.index_in(now["example_id"], before["example_id"].combine_chunks())
        there = pc.is_valid(at).to_numpy()
        ours = now["label"].to_numpy()[there]
        theirs = before["label"].take(at.drop_null()).to_numpy()
        return Changed(len(ours), int((ours != theirs).sum()))


def measure(labels: np.ndarray, log_probs: np.ndarray) -> dict[str, float]:
    """Scores of log-probabilities [N, C] against labels [N]; shares in [0, 1].

    The one that decisions read, ``score``, is the accuracy.
    """
    from sklearn.metrics import balanced_accuracy_score, log_loss  # here: a second that not all pay

    beliefs = Beliefs.of_log_probs([""] * len(labels), log_probs)
    right = beliefs.labels == labels
    probs = np.exp(log_probs.astype(np.float64))
    probs /= probs.sum(axis=1, keepdims=True)
    return {
        "rows": float(len(labels)),
        "score": float(right.mean()),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(labels, beliefs.labels)),
        "log_loss": float(log_loss(labels, probs, labels=np.arange(probs.shape[1]))),
        "calibration_error": calibration_error(beliefs.confidence, right),
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over equal-width bins.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    weight = np.bincount(place, minlength=bins)
    gap = np.bincount(place, confidence, bins) - np.bincount(place, right.astype(float), bins)
    return float(np.abs(gap)[weight > 0].sum() / len(confidence))
