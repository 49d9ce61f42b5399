"""A run on a Ray cluster started here, with its store on S3."""

import uuid

import pytest

from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, play

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]


def test_a_run_on_ray_with_its_store_on_s3_has_the_addresses_of_a_local_one(make_config, s3):
    short = ("recipe.training.steps={first_round: 4, base: 4}", "recipe.policy.num_rounds=1")
    there = make_config(
        *short,
        "name=there",
        "placement={engine: ray, train_workers: 1, label_actors: 1}",
        f"store={s3.uri(f'run-{uuid.uuid4().hex}')}",
    )
    ours, theirs = play(there), play(make_config(*short, "name=here"))
    assert addresses(ours) == addresses(theirs)
    store = Store(there.store)
    assert [store.faults(kind, address) for kind, address, _ in store.steps()] == [[]] * len(
        list(store.steps())
    )
    assert store.files.names("leases") == []
