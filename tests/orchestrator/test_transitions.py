"""Killed before any of its file operations, a run goes on and ends as if nothing had happened.

Every byte that is brought to disk and every name that is made, moved or removed is a state that a
crash may leave. What was written and not yet on disk is cut short, as a power cut leaves it.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest

from tests.orchestrator.injected import Killed, run_with
from tests.orchestrator.seconds import tell_lost
from tests.orchestrator.small_runs import Whole, differences

pytestmark = pytest.mark.slow
SAMPLE = 5


def kill_and_go_on(whole: Whole, folder: Path, numbers: Sequence[int]) -> list[str]:
    """Kill a run of its own before each of these operations, and start it again; what differs."""
    wrong, lost = [], []
    for at in numbers:
        config = whole.again(folder / str(at))
        killed = run_with(config, folder, Killed(at))
        resumed = run_with(config, folder)
        where = f"killed before {at}, {whole.operations[at - 1]}"
        if (killed.code, resumed.code) != (-9, 0):
            wrong.append(f"{where}: {killed.code}, {resumed.code}\n{resumed.text}")
            continue
        wrong += [f"{where}: {each}" for each in differences(config, whole.config)]
        lost.append(killed.seconds + resumed.seconds - whole.ended.seconds)
    tell_lost(f"driver killed, {len(lost)} states: mean", fmean(lost))
    tell_lost(f"driver killed, {len(lost)} states: most", max(lost))
    return wrong


def test_killed_at_some_of_its_file_operations_a_run_equals_an_uninterrupted_one(whole, tmp_path):
    count = len(whole.operations)
    numbers = [count * i // SAMPLE + count // (2 * SAMPLE) for i in range(SAMPLE)]
    assert kill_and_go_on(whole, tmp_path, numbers) == []


@pytest.mark.chaos
def test_killed_at_every_file_operation_a_run_equals_an_uninterrupted_one(whole, tmp_path):
    numbers = range(1, len(whole.operations) + 1)
    assert kill_and_go_on(whole, tmp_path, numbers) == []
