"""Mixing of pool rows: image and target of a row are blended with those of a surer row.

A rule plans for the whole global batch, from what all workers' rows are believed to be; whoever
holds a row draws its partner's view for itself.

Legend: B pool rows of the global batch, L labelled rows of it, C classes.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from trainables.pseudo_labels import PseudoLabels
from trainables.spec import Spec


@dataclass(frozen=True)
class Mixture:
    """What every pool row of a batch is blended with, and what it then teaches."""

    partners: np.ndarray
    """Positions among the pool rows of the batch, or among its labelled rows, int64 [B]."""
    labelled: np.ndarray
    """Whether the partner is a labelled row, bool [B]."""
    share: np.ndarray
    """Share of the row itself, float32 [B]; the rest is its partner's."""
    found: PseudoLabels
    """Blended targets [B, C] and weights [B]."""


class PairMix(Spec):
    """Each row with another pool row; of the two the surer one makes up more of the blend.

    Shares are c_i / (c_i + c_j) for confidences c as the selector saw them, and the pair counts if
    either row is accepted. Source: Cai et al., Semi-supervised vision transformers at scale,
    NeurIPS 2022, arXiv:2208.05688 (probabilistic pseudo mixup).
    """

    kind: Literal["pairs"] = "pairs"

    def mixture(
        self, told: PseudoLabels, labelled: np.ndarray, stream: np.random.Generator, passed: float
    ) -> Mixture:
        """The plan for a batch of these pool rows [B]."""
        del labelled, passed
        partners = stream.permutation(len(told.labels))
        sure = told.confidence.astype(np.float64)
        share = sure / np.maximum(sure + sure[partners], 1e-12)
        weights = np.maximum(told.weights, told.weights[partners])
        found = _blended(told, told.targets[partners], share, weights)
        return Mixture(partners, np.zeros(len(partners), bool), share.astype(np.float32), found)


class AnchorMix(Spec):
    """Each row with a row whose label is trusted: a labelled one, later also an accepted pool row.

    The trusted row makes up at least half: its share is max(s, 1 - s) with s from Beta(alpha,
    alpha). The target blends its label with what the pool row is believed to be, so every row
    counts, whatever the selector says: the selector names the anchors among the pool rows. House
    rule after Zhong et al., OpenMix, CVPR 2021, whose old and new classes are apart; ours are one
    label space.
    """

    kind: Literal["anchors"] = "anchors"
    alpha: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Beta(alpha, alpha) of the shares."""
    anchors_from: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the round from which accepted pool rows are trusted as labelled rows are."""

    def mixture(
        self, told: PseudoLabels, labelled: np.ndarray, stream: np.random.Generator, passed: float
    ) -> Mixture:
        """The plan for a batch of these pool rows [B] and labelled rows of these classes [L]."""
        num_rows, num_labelled = len(told.labels), len(labelled)
        anchors = np.flatnonzero(told.accepted) if passed >= self.anchors_from else np.zeros(0, int)
        drawn = stream.random(num_rows) * (num_labelled + len(anchors))
        share = stream.beta(self.alpha, self.alpha, size=num_rows)
        places = np.concatenate([np.arange(num_labelled), anchors])
        classes = np.concatenate([labelled, told.labels[anchors]])
        at = drawn.astype(np.int64)
        other = np.eye(told.targets.shape[1], dtype=np.float32)[classes[at]]
        share = np.minimum(share, 1 - share)
        found = _blended(told, other, share, np.ones(num_rows, np.float32))
        return Mixture(places[at], at < num_labelled, share.astype(np.float32), found)


PoolMix = Annotated[PairMix | AnchorMix, Field(discriminator="kind")]


def _blended(
    told: PseudoLabels, other: np.ndarray, share: np.ndarray, weights: np.ndarray
) -> PseudoLabels:
    """Targets blended with others [B, C]; blends that are not numbers count for nothing."""
    targets = share[:, None] * told.targets + (1 - share)[:, None] * other
    accepted = (weights > 0) & np.isfinite(targets).all(axis=1)
    return replace(
        told,
        accepted=accepted,
        targets=targets.astype(np.float32),
        weights=np.where(accepted, weights, 0).astype(np.float32),
    )
