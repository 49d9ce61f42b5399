"""S3 that fails during each kind of step: a moment is waited for, longer ends resumably."""

import uuid
from dataclasses import dataclass

import pytest

from orchestrator.config import RunConfig
from orchestrator.store import files
from orchestrator.store.store import Store
from tests.orchestrator.faulty import each, proxy
from tests.orchestrator.helpers import addresses
from tests.orchestrator.injected import run_with
from tests.orchestrator.seconds import tell_lost
from tests.orchestrator.small_runs import Whole, record_of

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
KINDS = ("train", "score", "label", "select", "audit")
MOMENT = 5
"""Requests in a row that a moment without storage costs."""


@dataclass(frozen=True)
class Impatient:
    """A run that asks storage twice instead of for two minutes."""

    def __call__(self, number: int, operation: str, path: str) -> None:
        vars(files.RETRY)["most_tries"] = 2


def on_s3(whole: Whole, s3, folder, port: int) -> RunConfig:
    """The small run with its store behind a proxy."""
    return whole.again(folder, f"store={s3.uri(uuid.uuid4().hex, port)}")


def is_whole(config: RunConfig, whole: Whole) -> None:
    """The run on S3 has the addresses and bytes of the one on a folder, and no lease is left."""
    assert addresses(record_of(config)) == addresses(record_of(whole.config))
    store, other = Store(config.store), Store(whole.config.store)
    assert list(store.steps()) == list(other.steps())
    for kind, address, _ in other.steps():
        assert store.faults(kind, address) == []
        assert store.record(kind, address).files == other.record(kind, address).files
    assert store.files.names("leases") == []


def test_storage_that_is_away_for_a_moment_in_every_kind_of_step_is_waited_for(
    whole: Whole, s3, tmp_path
):
    refused = dict.fromkeys(KINDS, 0)

    def plan(number: int, line: str):
        kind = next((k for k in KINDS if f"/{k}-" in line or f"/{k}/" in line), None)
        if kind is None or refused[kind] >= MOMENT:
            return "none"
        refused[kind] += 1
        return "busy"

    with proxy(s3.port, plan) as between:
        config = on_s3(whole, s3, tmp_path, between.port)
        ended = run_with(config, tmp_path)
        assert ended.code == 0, ended.text
        assert set(refused.values()) == {MOMENT}
        is_whole(config, whole)
    tell_lost("S3 away for a moment in five kinds of step", ended.seconds - whole.ended.seconds)


@pytest.mark.parametrize("kind", KINDS)
def test_storage_that_stays_away_in_a_step_ends_the_run_and_it_goes_on(
    whole: Whole, s3, tmp_path, kind
):
    away = False

    def plan(number: int, line: str):
        nonlocal away
        away = away or (line.startswith(("PUT", "POST")) and f"/steps/{kind}/" in line)
        return "error" if away else "none"

    with proxy(s3.port, plan) as between:
        config = on_s3(whole, s3, tmp_path, between.port)
        ended = run_with(config, tmp_path, Impatient())
        assert ended.code == 75, ended.text
        assert "start the same command again" in ended.text.splitlines()[-1]
        assert away
        between.plan = each("none")
        resumed = run_with(config, tmp_path)
        assert resumed.code == 0, resumed.text
        is_whole(config, whole)
    cost = ended.seconds + resumed.seconds - whole.ended.seconds
    tell_lost(f"S3 away for good in {kind}", cost)
