"""Seconds that faults cost, told by the tests that inject them.

`pytest -m "slow or chaos" -rP | grep "seconds lost"` shows them; docs/reliability.md holds them.
"""

import sys
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise


def tell_lost(fault: str, seconds: float) -> None:
    """Print what a fault cost, in seconds more than without it."""
    sys.stdout.write(f"seconds lost to {fault}: {seconds:.1f}\n")


def longest_silence(events: Sequence[dict]) -> float:
    """Most seconds between two events of a run from its first progress on.

    Progress is told every two seconds, so what a fault cost is this and at most two seconds less.
    """
    told = [event["event"] for event in events]
    times = [datetime.fromisoformat(e["time"]) for e in events[told.index("progress") :]]
    return max((after - before).total_seconds() for before, after in pairwise(times))
