"""What sharing saved: steps asked for, computed and found, and the work behind them."""

from collections.abc import Iterable
from typing import Any

from trainables.spec import Spec


class Account(Spec):
    """Steps of a sweep's trials, and the seconds of work behind them."""

    asked: int = 0
    """Steps that the trials asked for."""
    computed: int = 0
    """Steps that this sweep computed."""
    shared: int = 0
    """Steps that a trial found because another trial of this sweep had asked for them."""
    found: int = 0
    """Steps that the store had before: from other sweeps, runs and people."""
    asked_s: float = 0.0
    """Seconds that all asked steps would have taken one by one."""
    computed_s: float = 0.0
    """Seconds that the computed steps took."""

    cpus: float = 0.0
    """CPUs of one trial in its hungriest phase."""
    gpus: float = 0.0
    """GPUs of one trial in its hungriest phase."""

    @property
    def saved_s(self) -> float:
        """Seconds of work that were not done again."""
        return self.asked_s - self.computed_s

    def lines(self) -> list[str]:
        """The account in words, with its cost in CPU and GPU hours of a trial's placement."""
        share = self.saved_s / self.asked_s if self.asked_s else 0.0
        hours = [f"{self.saved_s * self.cpus / 3600:.2f} CPU hours"] if self.cpus else []
        hours += [f"{self.saved_s * self.gpus / 3600:.2f} GPU hours"] if self.gpus else []
        return [
            f"{self.asked:,} steps asked for: {self.computed:,} computed, {self.shared:,} shared "
            f"between trials, {self.found:,} found in the store",
            f"saved {self.saved_s:,.0f} of {self.asked_s:,.0f} s of work ({share:.0%}), "
            f"which is {' and '.join(hours) or 'nothing'}",
        ]


def account_of(events: Iterable[dict[str, Any]], cpus: float, gpus: float) -> Account:
    """The account of a sweep's event log, over all its restarts."""
    asked: dict[tuple[Any, ...], str] = {}
    work_s: dict[str, float] = {}
    computed: set[str] = set()
    for event in events:
        if event["event"] != "trial_step":
            continue
        key = tuple(event[name] for name in ("trial", "seed", "round", "step"))
        address = f"{event['kind']}/{event['address']}"
        asked[key] = address
        work_s[address] = event["work_s"]
        if not event["from_store"]:
            computed.add(address)
    distinct = set(asked.values())
    return Account(
        asked=len(asked),
        computed=len(computed),
        shared=len(asked) - len(distinct),
        found=len(distinct - computed),
        asked_s=round(sum(work_s[a] for a in asked.values()), 3),
        computed_s=round(sum(work_s[a] for a in computed), 3),
        cpus=cpus,
        gpus=gpus,
    )
