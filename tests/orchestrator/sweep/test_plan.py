"""The plan of a sweep: what it foretells is what the sweep then asks for and computes."""

import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.store.store import Store
from orchestrator.sweep.plan import SweepPlan, plan_sweep
from tests.orchestrator.sweep.helpers import LEAST, SHARE
from tests.orchestrator.sweep.test_session import config_in, sweep

GRID = {SHARE: {"choices": [0.3, 0.5]}, LEAST: {"choices": [0.0, 0.05]}}


def planned(config) -> SweepPlan:
    return plan_sweep(config, Dataset(config.data), Store(config.store))


@pytest.mark.slow
def test_a_grid_asks_for_and_computes_what_was_planned(tmp_path, digits):
    whole = {"rule": "none", "collapse_fall": 1.0, "collapse_class_share": 1.0}
    config = config_in(tmp_path, digits, space=GRID, sampler="grid", trials=None, pruning=whole)
    before = planned(config)
    record, _ = sweep(config)
    after = planned(config)
    assert before.trials == len(record.places) == 4
    assert (before.asked, before.shared) == (record.account.asked, record.account.shared)
    assert before.to_compute == record.account.computed
    assert (after.to_compute, after.most_steps, after.rows) == (0, 0, 0)
    assert after.in_store == before.to_compute


def test_a_plan_counts_what_sharing_saves(tmp_path, digits):
    found = planned(config_in(tmp_path, digits, trials=5))
    assert found.trials == 5
    assert found.asked == found.shared + found.to_compute
    assert 0 < found.most_steps < found.most_steps_alone
    assert 0 < found.rows < found.rows_alone


def test_seeds_share_nothing_with_each_other(tmp_path, digits):
    one = planned(config_in(tmp_path, digits, trials=3))
    two = planned(config_in(tmp_path, digits, trials=3, seeds=(0, 1)))
    assert (two.asked, two.to_compute) == (2 * one.asked, 2 * one.to_compute)


def test_a_plan_computes_nothing_and_opens_no_study(tmp_path, digits):
    config = config_in(tmp_path, digits)
    planned(config)
    assert list(Store(config.store).steps()) == []
    assert not (tmp_path / "runs").exists()


def test_a_plan_of_a_faulty_space_lists_its_faults(tmp_path, digits):
    with pytest.raises(ConfigError, match="did you mean 'share'"):
        planned(config_in(tmp_path, digits, space={"recipe.selector.shard": {"low": 0, "high": 1}}))
