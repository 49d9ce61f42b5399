"""Seconds that faults cost, told by the tests that inject them.

`pytest -m "slow or chaos" -rP | grep "seconds lost"` shows them; docs/reliability.md holds them.
"""

import sys


def tell_lost(fault: str, seconds: float) -> None:
    """Print what a fault cost, in seconds more than without it."""
    sys.stdout.write(f"seconds lost to {fault}: {seconds:.1f}\n")
