"""All selectors as one type, told apart by their `kind`."""

from typing import Annotated

from pydantic import Field

from trainables.selectors.adaptive import (
    ClassRate,
    EqualRate,
    FlexThreshold,
    FreeThreshold,
    LossBound,
    MixtureThreshold,
    OutOfFoldPrecision,
    RelativeThreshold,
)
from trainables.selectors.fixed import (
    ClassShare,
    ClassTopK,
    EvenShare,
    Everything,
    Threshold,
    TopShare,
)
from trainables.selectors.located import Compactness, ExpectedReward
from trainables.selectors.sampled import FirstComponent, SeparationRule, TransductiveBound

Selector = Annotated[
    Everything
    | Threshold
    | TopShare
    | ClassShare
    | ClassTopK
    | EvenShare
    | OutOfFoldPrecision
    | FlexThreshold
    | FreeThreshold
    | RelativeThreshold
    | ClassRate
    | EqualRate
    | LossBound
    | MixtureThreshold
    | SeparationRule
    | FirstComponent
    | TransductiveBound
    | Compactness
    | ExpectedReward,
    Field(discriminator="kind"),
]
