"""All selectors as one type, told apart by their `kind`."""

from typing import Annotated, TypeGuard

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


def fills(selector: Selector) -> TypeGuard[ClassTopK | EvenShare]:
    """Whether a selector gives rows that are left to classes that are short of rows."""
    return isinstance(selector, ClassTopK | EvenShare) and selector.fill
