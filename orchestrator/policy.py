"""Round policy: from the scores of the rounds played, what to do next. Decides, never acts.

Only validation is seen here; a test score can't reach a decision because no type holds one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.recipe import RoundPolicy


@dataclass(frozen=True)
class Played:
    """One finished round, as decisions see it."""

    round: int
    validation: float
    """Accuracy on the validation rows, in [0, 1]."""
    kept: bool
    """Whether the round was kept; a rolled-back round is no starting point for others."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a round."""

    kept: bool
    reason: str
    """Why, in words for the record."""


def judge(policy: RoundPolicy, before: Sequence[Played], validation: float) -> Verdict:
    """Whether to keep a round with this validation, given the rounds before it."""
    kept = [p.validation for p in before if p.kept]
    bound = policy.roll_back_below
    if not kept or bound is None:
        return Verdict(kept=True, reason="kept")
    fall = max(kept) - validation
    if fall > bound + 1e-12:
        return Verdict(
            kept=False,
            reason=f"rolled back: validation {validation:.4f} is {fall:.4f} below the best "
            f"{max(kept):.4f}, more than {bound:g}",
        )
    return Verdict(kept=True, reason="kept")


def stop_reason(policy: RoundPolicy, played: Sequence[Played]) -> str | None:
    """Why the run should end now, or None to play another round."""
    if len(played) >= policy.num_rounds:
        return "all rounds played"
    if policy.patience_rounds is not None:
        values = [p.validation for p in played]
        best_at = max(range(len(values)), key=lambda i: (values[i], -i))
        if len(values) - 1 - best_at >= policy.patience_rounds:
            return f"no better validation for {policy.patience_rounds} rounds"
    return None


def teacher_in_force(played: Sequence[Played]) -> int:
    """The round whose teacher labels the pool next: the last one that was kept."""
    return max(p.round for p in played if p.kept)


def delivered(policy: RoundPolicy, played: Sequence[Played]) -> int:
    """The round that the run delivers."""
    kept = [p for p in played if p.kept]
    if policy.deliver == "last":
        return kept[-1].round
    return max(kept, key=lambda p: (p.validation, -p.round)).round
