"""Whatever happens to W&B, a run ends as without it, and a replay holds every round once."""

import time
from pathlib import Path

import pytest

from tests.orchestrator.faulty import each, proxy
from tests.orchestrator.injected import run_with
from tests.orchestrator.processes import end, events, processes_of, start, wait_until
from tests.orchestrator.s3 import environment
from tests.orchestrator.seconds import tell_lost
from tests.orchestrator.small_runs import Whole, differences, record_of
from tests.orchestrator.tracking.wandb_files import history, offline_files
from tests.orchestrator.tracking.wandb_harm import Harmed, freeze

pytestmark = pytest.mark.slow
KINDS = ("train", "score", "label", "select", "audit")
OFFLINE = "tracking.wandb=offline"
PATIENCE_S = 25
"""Most seconds that W&B may hold up the end of a run."""


def replays_exactly(config, out: Path) -> None:
    """A replay has one row for each round, with the scores of the record."""
    from orchestrator.tracking.wandb_projection import replay

    record = record_of(config)
    replay(record.run, record.config, config.runs / record.run, out)
    (file,) = offline_files(out)
    rows = [row for row in history(file) if "validation/accuracy" in row]
    assert [row["round"] for row in rows] == [each.round for each in record.rounds]
    scores = [each.test["accuracy"] for each in record.rounds]
    assert [row["test/accuracy"] for row in rows] == scores


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        pytest.param(
            how, kind, marks=() if (how, kind) == ("killed", "label") else pytest.mark.chaos
        )
        for how in ("killed", "full", "gone", "raises")
        for kind in KINDS
    ],
)
def test_wandb_that_fails_in_a_step_changes_nothing_and_is_replayed(
    whole: Whole, tmp_path, how, kind
):
    config = whole.again(tmp_path, OFFLINE)
    ended = run_with(config, tmp_path, Harmed(how, kind))
    assert ended.code == 0, ended.text
    assert differences(config, whole.config) == []
    replays_exactly(config, tmp_path / "again")
    tell_lost(f"W&B {how} in {kind}", ended.seconds - whole.ended.seconds)
    assert ended.seconds < whole.ended.seconds + PATIENCE_S + 10


@pytest.mark.chaos
def test_wandb_without_a_place_for_its_files_changes_nothing(whole: Whole, tmp_path):
    config = whole.again(tmp_path, OFFLINE)
    ended = run_with(config, tmp_path, Harmed("occupied", "train", 0))
    assert ended.code == 0, ended.text
    assert "W&B is off from here" in ended.text
    assert differences(config, whole.config) == []
    replays_exactly(config, tmp_path / "again")


@pytest.mark.chaos
@pytest.mark.parametrize("answer", ["error", "refused", "unanswered"])
def test_a_server_that_fails_changes_nothing(whole: Whole, tmp_path, answer):
    with proxy(1, each(answer)) as server:
        here = {
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.port}",
            "WANDB_API_KEY": "0" * 40,
        }
        config = whole.again(tmp_path, "tracking.wandb=online")
        with environment(here):
            process = start(config, tmp_path)
            output = end(process)
        assert server.requests
    assert process.returncode == 0, output
    assert differences(config, whole.config) == []
    replays_exactly(config, tmp_path / "again")


@pytest.mark.chaos
def test_a_frozen_wandb_holds_up_the_end_of_a_run_for_a_bounded_time(whole: Whole, tmp_path):
    config = whole.again(tmp_path, OFFLINE)
    process = start(config, tmp_path)

    def frozen() -> bool:
        found = processes_of(process.pid, "wandb-core")
        for service in found:
            freeze(service)
        return bool(found)

    assert wait_until(frozen, process)
    assert wait_until(lambda: any(e["event"] == "run_finished" for e in events(config)), process)
    over = time.monotonic()
    output, _ = process.communicate(timeout=4 * PATIENCE_S)
    tell_lost("W&B frozen", time.monotonic() - over)
    assert process.returncode == 0, output
    assert "W&B did not finish within 20 s and is ended" in output
    assert differences(config, whole.config) == []
