"""Alarms: what in a round looks like a run going wrong. They are told, nothing acts on them."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from trainables.selectors.rules import NEARLY_ALL
from trainables.step_tally import InStep

LEAST_COVERAGE = 0.001
MOST_TIMES_PRIOR = 3.0
MOST_FLIPS = 0.3
FLIPS_FROM_ROUND = 3
FALLING_ROUNDS = 2
MOST_BELOW_ROUND_0 = 0.005
"""Validation score, as a share, by which a round may stay below the supervised one untold."""
MOST_SHOWN = 5
LEAST_EXPECTED = 20
"""Rows that a class would hold by its labelled share before holding none is told."""


def alarms(  # noqa: PLR0913 - each number that a bound is held against
    round_: int,
    *,
    coverage: float | None,
    class_rows: Sequence[int],
    labelled_rows: Sequence[int],
    flip_rate: float | None,
    validations: Sequence[float],
    alone: float | None = None,
    accepts_all: bool = True,
    in_step: InStep | None = None,
) -> tuple[str, ...]:
    """The alarms of a round, one line each.

    ``class_rows`` and ``labelled_rows`` are accepted and labelled rows by class; ``validations``
    are the validation scores of this round and all before it, ``alone`` that of labels alone where
    round 0 read more. ``accepts_all`` says whether the selector means to accept nearly the whole
    pool, ``in_step`` what training steps accepted of it.
    """
    found = [*_of_coverage("of the pool was accepted", coverage, accepts_all=accepts_all)]
    found += _of_classes("the selection", class_rows, labelled_rows)
    if in_step is not None:
        found += _of_steps(in_step, labelled_rows)
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


def _of_coverage(what: str, coverage: float | None, *, accepts_all: bool) -> Iterator[str]:
    if coverage is not None and coverage < LEAST_COVERAGE:
        yield f"only {coverage:.2%} {what}"
    if coverage is not None and coverage > NEARLY_ALL and not accepts_all:
        yield f"{coverage:.2%} {what}: the selector holds next to nothing back"


def _of_classes(where: str, class_rows: Sequence[int], labelled: Sequence[int]) -> Iterator[str]:
    if not sum(class_rows) or not sum(labelled):
        return
    for label, (got, known) in enumerate(zip(class_rows, labelled, strict=True)):
        share, prior = got / sum(class_rows), known / sum(labelled)
        holds = f"class {label} holds {share:.1%} of {where}"
        if share > MOST_TIMES_PRIOR * max(prior, 1 / sum(labelled)):
            much = f"{MOST_TIMES_PRIOR:g} times its {prior:.1%}" if known else "its none"
            yield f"{holds}, more than {much} of the labelled rows"
        elif share > max(NEARLY_ALL, (1 + prior) / 2):
            yield f"{holds}, nearly all, and {prior:.1%} of the labelled rows"


def _of_steps(in_step: InStep, labelled: Sequence[int]) -> Iterator[str]:
    """Of what the last part of a round's steps accepted."""
    share = in_step.accepted_share
    what = "of the pool rows of the last training steps were accepted"
    yield from _of_coverage(what, share, accepts_all=in_step.accepts_all)
    accepted = "what the last training steps accepted"
    yield from _of_classes(accepted, in_step.class_rows, labelled)
    yield from _without_rows(in_step.class_rows, labelled)
    if in_step.not_finite:
        yield f"beliefs about {in_step.not_finite:,} pool rows of training steps were not finite"


def _without_rows(class_rows: Sequence[int], labelled: Sequence[int]) -> Iterator[str]:
    """One line for all classes that should hold some rows and hold none."""
    whole = sum(class_rows)
    due = [(k, prior) for k, got, prior in _with_priors(class_rows, labelled) if not got]
    due = [(k, prior) for k, prior in due if prior * whole >= LEAST_EXPECTED]
    if due:
        shown = ", ".join(str(k) for k, _ in due[:MOST_SHOWN])
        more = f" and {len(due) - MOST_SHOWN:,} more" if len(due) > MOST_SHOWN else ""
        yield (
            f"none of the {whole:,} rows that the last training steps accepted is of class {shown}"
            f"{more}, which hold {sum(prior for _, prior in due):.1%} of the labelled rows"
        )


def _with_priors(
    class_rows: Sequence[int], labelled: Sequence[int]
) -> Iterator[tuple[int, int, float]]:
    """Class, its accepted rows and its share of the labelled ones, of classes that have such."""
    if not sum(class_rows) or not sum(labelled):
        return
    for label, (got, known) in enumerate(zip(class_rows, labelled, strict=True)):
        if known:
            yield label, got, known / sum(labelled)
