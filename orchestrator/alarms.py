"""Alarms: what in a round looks like a run going wrong. They are told, nothing acts on them."""

from collections.abc import Sequence
from itertools import pairwise

LEAST_COVERAGE = 0.001
MOST_TIMES_PRIOR = 3.0
MOST_FLIPS = 0.3
FLIPS_FROM_ROUND = 3
FALLING_ROUNDS = 2
MOST_BELOW_ROUND_0 = 0.005
"""Validation score, as a share, by which a round may stay below the supervised one untold."""


def alarms(
    round_: int,
    *,
    coverage: float | None,
    class_rows: Sequence[int],
    labelled_rows: Sequence[int],
    flip_rate: float | None,
    validations: Sequence[float],
    alone: float | None = None,
) -> tuple[str, ...]:
    """The alarms of a round, one line each.

    ``class_rows`` and ``labelled_rows`` are accepted and labelled rows by class; ``validations``
    are the validation scores of this round and all before it, ``alone`` that of labels alone where
    round 0 read more.
    """
    found = []
    if coverage is not None and coverage < LEAST_COVERAGE:
        found.append(f"only {coverage:.2%} of the pool was accepted")
    if sum(class_rows) and sum(labelled_rows):
        for label, (got, known) in enumerate(zip(class_rows, labelled_rows, strict=True)):
            share, prior = got / sum(class_rows), known / sum(labelled_rows)
            if prior and share > MOST_TIMES_PRIOR * prior:
                found.append(
                    f"class {label} holds {share:.1%} of the selection, more than "
                    f"{MOST_TIMES_PRIOR:g} times its {prior:.1%} of the labelled rows"
                )
    if flip_rate is not None and round_ >= FLIPS_FROM_ROUND and flip_rate > MOST_FLIPS:
        found.append(f"{flip_rate:.0%} of the pool changed its predicted class since last round")
    newest = validations[-FALLING_ROUNDS - 1 :]
    if len(newest) > FALLING_ROUNDS and all(later < before for before, later in pairwise(newest)):
        shown = ", ".join(f"{value:.4f}" for value in newest)
        found.append(f"validation has fallen for {FALLING_ROUNDS} rounds: {shown}")
    if alone is not None and validations and alone - validations[-1] > MOST_BELOW_ROUND_0:
        found.append(f"validation {validations[-1]:.4f} is below the {alone:.4f} of labels alone")
    elif validations and validations[0] - validations[-1] > MOST_BELOW_ROUND_0:
        whose = "of round 0" if alone is not None else "of round 0: labels alone were better"
        found.append(f"validation {validations[-1]:.4f} is below the {validations[0]:.4f} {whose}")
    return tuple(found)
