"""The recipe of a run whose rows have points."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from orchestrator.recipe import ImageSpec, RoundPolicy, ScoringSpec
from trainables.augment import WEAK, ViewSpec
from trainables.landmarks.elements import PointRanking
from trainables.landmarks.network import LandmarkNetworkSpec
from trainables.landmarks.settings import LandmarkTraining
from trainables.schedules import schedules_over_steps
from trainables.selectors.adaptive import MixtureThreshold
from trainables.selectors.fixed import (
    ClassShare,
    ClassTopK,
    EvenShare,
    Everything,
    Threshold,
    TopShare,
)
from trainables.selectors.library import fills
from trainables.spec import Spec
from trainables.update import Precision

PointSelector = Annotated[
    Everything | Threshold | TopShare | ClassShare | ClassTopK | EvenShare | MixtureThreshold,
    Field(discriminator="kind"),
]
"""Selectors that need no more of an element than its name and confidence."""


class LandmarkLabelling(Spec):
    """How the teacher labels the pool."""

    tracking: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the heatmap's points in the label; the rest is the centre branch's candidate nearest
    to them."""
    flips: bool = False
    """Find points in the mirror image as well, and take the mean of both."""
    views: Annotated[int, Field(ge=1, le=100)] = 1
    """Views in which points are found: the image itself, then weak views of it. The label is the
    median of each coordinate, moved back onto the image."""
    view: ViewSpec = WEAK
    """How these weak views are drawn."""
    candidates: Annotated[int, Field(ge=1, le=1024)] = 32
    """Cells of the centre map that are decoded."""
    precision: Precision = "float32"
    """Arithmetic of the network that labels."""


class LandmarkRecipe(Spec):
    """Everything that decides the outcome of a run whose rows have points."""

    task: Literal["landmarks"] = "landmarks"
    """What labels are: points."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """The seed from which every random choice of the run follows."""
    images: ImageSpec = ImageSpec()
    """Size and channels of the images, which are scaled on the longer side and padded."""
    student: LandmarkNetworkSpec = LandmarkNetworkSpec()
    """The network that each round trains."""
    training: LandmarkTraining = LandmarkTraining()
    """How a round trains it."""
    labelling: LandmarkLabelling = LandmarkLabelling()
    """How the teacher labels the pool."""
    scoring: ScoringSpec = ScoringSpec()
    """How students are asked when they are scored: the image alone, or mirror images and views."""
    ranking: PointRanking = "peak"
    """What selectors order points by: the heatmap's mass at its peak, how narrow it is, how near
    the heatmap and the centre branch are, or how near the points of several views are."""
    selector: PointSelector = ClassShare()
    """Which points become pseudo-labels, each on its own; its classes are the points' names."""
    weight: Literal["uniform", "confidence"] = "uniform"
    """How much an accepted point counts: 1, or what it was ranked by."""
    policy: RoundPolicy = RoundPolicy()
    """What happens between rounds."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = [
            f"{path} moves over steps, which the stored table does not have"
            for path in schedules_over_steps(self.selector, "selector")
        ]
        if self.policy.start == "warm_body":
            faults.append("policy.start: warm_body needs a classifier, and points have none")
        if self.policy.pool == "remaining":
            faults.append(
                "policy.pool: remaining leaves out rows, and points are chosen one by one: set keep"
            )
        if fills(self.selector):
            faults.append("selector.fill would move points to another name: leave it out")
        reads = self.training.batch.selected or self.training.reads_pool
        if self.policy.num_rounds > 1 and not reads:
            faults.append("no later round would read the pool: training.batch.selected is 0")
        if self.ranking == "consistency" and self.labelling.views == 1:
            faults.append("ranking: consistency compares views: set labelling.views to 2 or more")
        if faults:
            raise ValueError("; ".join(faults))
        return self
