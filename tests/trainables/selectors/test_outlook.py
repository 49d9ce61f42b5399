"""Which settings mean to accept nearly the whole pool."""

from typing import get_args

import pytest

from trainables.selectors.adaptive import (
    ClassRate,
    FlexThreshold,
    FreeThreshold,
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
from trainables.selectors.library import Selector
from trainables.selectors.located import ExpectedReward
from trainables.selectors.rules import Outlook

EVEN, UNEVEN = (10, 10, 10, 10), (40, 20, 10, 5)
ROWS = 400


@pytest.mark.parametrize(
    ("selector", "class_rows"),
    [
        (Everything(), UNEVEN),
        (TopShare(share=1.0), UNEVEN),
        (ClassShare(share=0.99), UNEVEN),
        (ClassTopK(k=100), UNEVEN),
        (ClassTopK(), UNEVEN),
        (EvenShare(share=1.0), UNEVEN),
        (ClassRate(), EVEN),
        (Threshold(threshold=0.25), UNEVEN),
        (FlexThreshold(threshold=0.2, floor=0.2), UNEVEN),
        (RelativeThreshold(share=0.0), UNEVEN),
        (FreeThreshold(ceiling=0.1), UNEVEN),
        (FreeThreshold(quantile=0.0), UNEVEN),
        (ExpectedReward(drop=0.0), UNEVEN),
        (ClassShare(share=1.0, least_confidence=0.25), UNEVEN),
    ],
)
def test_settings_that_let_every_row_pass_mean_to(selector, class_rows):
    assert selector.accepts_all(Outlook.of_classes(class_rows, ROWS))


@pytest.mark.parametrize(
    ("selector", "class_rows"),
    [
        (TopShare(share=0.98), EVEN),
        (ClassShare(share=0.5), EVEN),
        (ClassTopK(k=98), EVEN),
        (ClassRate(), UNEVEN),
        (Threshold(threshold=0.3), EVEN),
        (FlexThreshold(), EVEN),
        (FlexThreshold(threshold=0.2, floor=0.9), EVEN),
        (ClassShare(share=1.0, least_confidence=0.9), EVEN),
        (ClassTopK(k=100, least_confidence=0.9), EVEN),
        (EvenShare(share=1.0, least_confidence=0.9), EVEN),
        (ExpectedReward(drop=0.1), EVEN),
        (RelativeThreshold(), EVEN),
        (FreeThreshold(), EVEN),
        (FreeThreshold(quantile=0.5), EVEN),
        (OutOfFoldPrecision(), EVEN),
    ],
)
def test_settings_that_hold_rows_back_do_not(selector, class_rows):
    assert not selector.accepts_all(Outlook.of_classes(class_rows, ROWS))


def test_a_bound_that_every_element_reaches_is_0_where_confidences_are_no_probabilities():
    scores = Outlook(EVEN, ROWS, least_confidence=0)
    assert not Threshold(threshold=0.2).accepts_all(scores)
    assert Threshold(threshold=0.0).accepts_all(scores)


@pytest.mark.parametrize("kind", get_args(get_args(Selector)[0]))
def test_only_everything_means_to_accept_all_by_default_of_classes_with_uneven_labels(kind):
    selector, wide = kind(), Outlook.of_classes(UNEVEN, pool_rows=100_000)
    assert selector.accepts_all(wide) is (selector.kind == "everything")
