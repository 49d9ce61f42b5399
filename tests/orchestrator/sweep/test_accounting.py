"""What sharing saved, by hand."""

from typing import Any

import pytest

from orchestrator.sweep.accounting import Account, account_of


def step(
    trial: int | str, kind: str, address: str, work_s: float, *, found: bool, seed: int = 0
) -> dict[str, Any]:
    return {
        "event": "trial_step",
        "trial": trial,
        "seed": seed,
        "round": 0,
        "step": kind,
        "kind": kind,
        "address": address,
        "work_s": work_s,
        "from_store": found,
    }


TWO_TRIALS = [
    {"event": "sweep_started", "sweep": "x", "room": 1},
    step(0, "train", "a", 10.0, found=False),
    step(0, "label", "b", 2.0, found=False),
    step(0, "select", "c", 1.0, found=True),  # somebody else's
    step(1, "train", "a", 10.0, found=True),
    step(1, "label", "b", 2.0, found=True),
    step(1, "select", "d", 1.5, found=False),
]


def test_steps_are_computed_shared_or_found():
    found = account_of(TWO_TRIALS, cpus=2, gpus=0)
    assert (found.asked, found.computed, found.shared, found.found) == (6, 3, 2, 1)
    assert found.asked == found.computed + found.shared + found.found
    assert (found.asked_s, found.computed_s, found.saved_s) == (26.5, 13.5, 13.0)


def test_a_restart_that_finds_its_steps_again_changes_nothing():
    again = [{**event, "from_store": True} for event in TWO_TRIALS[1:]]
    assert account_of([*TWO_TRIALS, *again], 2, 0) == account_of(TWO_TRIALS, 2, 0)


def test_a_step_of_two_kinds_with_one_address_is_two_steps():
    events = [step(0, "train", "a", 1, found=False), step(0, "score", "a", 1, found=False)]
    assert account_of(events, 1, 0).computed == 2


def test_seeds_and_work_of_the_sweep_itself_are_told_apart():
    events = [
        step("screen", "train", "a", 4.0, found=False),
        step(0, "train", "a", 4.0, found=True),
        step(0, "train", "b", 4.0, found=False, seed=1),
    ]
    found = account_of(events, 1, 0)
    assert (found.asked, found.computed, found.shared, found.found) == (3, 2, 1, 0)


def test_the_words_hold_the_numbers_and_their_cost():
    account = Account(
        asked=1200, computed=300, shared=800, found=100, asked_s=7200, computed_s=1800, cpus=4
    )
    assert account.lines() == [
        "1,200 steps asked for: 300 computed, 800 shared between trials, 100 found in the store",
        "saved 5,400 of 7,200 s of work (75%), which is 6.00 CPU hours",
    ]
    with_gpu = account.model_copy(update={"gpus": 0.5})
    assert with_gpu.lines()[1].endswith("6.00 CPU hours and 0.75 GPU hours")


def test_a_sweep_without_a_step_saved_nothing():
    found = account_of([], 1, 0)
    assert (found.asked, found.saved_s) == (0, 0.0)
    assert "(0%)" in found.lines()[1]


def test_work_whose_time_was_learned_later_counts_once_with_it():
    events = [step(0, "train", "a", 0.0, found=False), step(1, "train", "a", 3.0, found=True)]
    found = account_of(events, 1, 0)
    assert (found.computed_s, found.asked_s) == pytest.approx((3.0, 6.0))
