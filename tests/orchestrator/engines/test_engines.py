"""Laws of engines: where work is done never changes a table."""

from pathlib import Path

import numpy as np
import pytest

from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import prepare
from orchestrator.errors import InfeasibleError
from orchestrator.store.store import Store
from tests.orchestrator.helpers import addresses, play, table_of
from tests.orchestrator.processes import end, start

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def files_of(store: str | Path, record, name: str) -> list:
    """The entries (names, digests) of a step of each round."""
    opened = Store(store)
    refs = [r.steps[name] for r in record.rounds]
    return [opened.record(ref.kind, ref.address).files for ref in refs]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, digits):
    """A run of the local engine: its record and its store."""
    from orchestrator.loading import build_config
    from tests.conftest import QUICK

    root = tmp_path_factory.mktemp("reference")
    tree = QUICK | {"data": str(digits), "store": str(root / "s"), "runs": str(root / "r")}
    return play(build_config(tree)), root / "s"


@pytest.mark.parametrize("actors", [1, 2])
def test_the_ray_engine_writes_the_tables_of_the_local_engine(make_config, reference, actors):
    expected, store = reference
    config = make_config("placement.engine=ray", f"placement.label_actors={actors}")
    record = play(config)
    assert addresses(record) == addresses(expected)
    for name in ("train", "label", "select"):
        assert files_of(config.store, record, name) == files_of(store, expected, name)
    assert [r.test for r in record.rounds] == [r.test for r in expected.rounds]


@pytest.mark.parametrize(  # 70 fragments, which are selected from in Ray tasks, and one
    "fragment_rows", [15, 10_000]
)
def test_the_number_of_shards_changes_no_row_of_a_table(
    make_config, reference, tmp_path, fragment_rows
):
    expected, store = reference
    data = tmp_path / "resharded"
    spec = PrepareSpec(labelled_per_class=10, validation=200, test=450, fragment_rows=fragment_rows)
    prepare("digits", data, spec)
    config = make_config("placement.engine=ray", data=data)
    record = play(config)
    for mine, theirs in zip(record.rounds, expected.rounds, strict=True):
        for kind in ("label", "select"):
            found = table_of(config.store, kind, mine.steps[kind].address)
            wanted = table_of(store, kind, theirs.steps[kind].address)
            assert found.equals(wanted)


def test_one_and_two_training_workers_agree_at_one_global_batch(make_config):
    """With group norm and no dropout the only difference is the order of float sums."""
    settings = [
        "recipe.student={kind: small_cnn, width: 8, norm: group}",
        "recipe.policy={num_rounds: 1, label_last: true}",
    ]
    tables = []
    for workers in (0, 2):
        config = make_config(
            *settings,
            "placement.engine=ray",
            f"placement.train_workers={workers}",
            f"store={make_config().store}-{workers}",
        )
        record = play(config)
        tables.append(table_of(config.store, "label", record.rounds[0].steps["label"].address))
    one, two = (t["log_probs"].combine_chunks().flatten().to_numpy() for t in tables)
    assert np.abs(np.exp(one) - np.exp(two)).max() < 1e-3


def test_a_request_that_can_never_be_met_fails_at_once_and_says_what_is_missing(make_config):
    config = make_config("placement.engine=ray", "placement.train_workers=16")
    with pytest.raises(InfeasibleError, match="16 training workers .* the cluster has 4"):
        play(config)


def test_ray_that_cannot_start_here_ends_the_run_with_75_and_what_to_look_at(
    make_config, monkeypatch, tmp_path
):
    (tmp_path / "occupied").write_text("no folder")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "occupied"))
    process = start(make_config("placement.engine=ray"), tmp_path)
    said = end(process)
    assert process.returncode == 75, said
    assert "Ray could not be started on this machine" in said
    assert "RAY_TMPDIR" in said
    assert "Traceback" not in said
