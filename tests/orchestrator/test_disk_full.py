"""Without room a run ends at once, says so in one line, and goes on as soon as there is some."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.orchestrator.disks import grow, small_disk
from tests.orchestrator.injected import Ended, Full, run_with
from tests.orchestrator.small_runs import Whole, differences

pytestmark = pytest.mark.slow
UNFINISHED = "work"
"""Folder of a store for work that is not finished."""
MOMENTS = {
    "the first lease": "sync runs/RUN/.lease.json",
    "the event log": "sync runs/RUN/events.jsonl",
    "a checkpoint": f"sync store/{UNFINISHED}/train-TRAIN/.checkpoint.safetensors",
    "weights": "sync store/steps/train/TRAIN/.teacher.safetensors",
    "predictions": "sync store/steps/label/LABEL/.part-00001.parquet",
    "a selection": "sync store/steps/select/SELECT/.part-00000.parquet",
    "the record of a step": "sync store/steps/select/SELECT/.record.json",
    "the record of the run": "sync runs/RUN/.run.json",
}
"""What is being written when the disk is full, by the operation in round 0 that does so."""
QUICK = ("the event log", "predictions")


def fill_and_go_on(whole: Whole, folder: Path, numbers: Sequence[int]) -> list[str]:
    """Let a run of its own find no room from each operation on, then play it with room again."""
    wrong = []
    for at in numbers:
        config = whole.again(folder / str(at))
        full = run_with(config, folder, Full(at))
        store = Store(config.store)
        torn = [store.faults(kind, each) for kind, each, done in store.steps() if done]
        resumed = run_with(config, folder)
        where = f"full before {at}, {whole.operations[at - 1]}"
        if not tells(full) or any(torn) or resumed.code:
            wrong.append(f"{where}: {full.code} {full.text} {torn} {resumed.text}")
            continue
        wrong += [f"{where}: {each}" for each in differences(config, whole.config)]
    return wrong


def tells(full: Ended) -> bool:
    """Whether the process ended as one that goes on later, with one line that says how."""
    last = full.text.splitlines()[-1]
    said = ("failed: No space left on device; make room there", "start the same command again")
    return full.code == 75 and all(part in last for part in said) and "Traceback" not in full.text


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, marks=() if m in QUICK else pytest.mark.chaos) for m in MOMENTS],
)
def test_a_disk_that_fills_up_ends_the_run_resumably(whole, tmp_path, moment):
    assert fill_and_go_on(whole, tmp_path, [whole.at(MOMENTS[moment])]) == []


@pytest.mark.chaos
def test_a_disk_that_fills_up_anywhere_ends_the_run_resumably(whole, tmp_path):
    numbers = [i for i, each in enumerate(whole.operations, 1) if each.startswith(("sync", "link"))]
    assert fill_and_go_on(whole, tmp_path, numbers) == []


@pytest.mark.chaos
def test_a_real_disk_that_is_full_ends_the_run_and_a_larger_one_goes_on(whole, tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        config = whole.again(disk / "run")
        full = run_with(config, tmp_path / "printed")
        assert tells(full), full.text
        store = Store(config.store)
        assert not any(store.faults(kind, each) for kind, each, done in store.steps() if done)
        grow(disk, "64m")
        resumed = run_with(config, tmp_path / "printed")
        assert resumed.code == 0, resumed.text
        assert differences(config, whole.config) == []
