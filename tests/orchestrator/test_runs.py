"""Run records: small files that are found again, say who they are and hold no secret."""

import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, StoreError
from orchestrator.runs import RECORD, RunRecord, data_digest, find_run, load_run, run_id, save_run


@pytest.fixture
def record(make_config) -> RunRecord:
    config = make_config()
    data = Dataset(config.data)
    return RunRecord(
        run=run_id(config, data),
        status="running",
        config=config,
        data=data_digest(data),
        classes=data.manifest.classes,
    )


def test_a_record_is_read_back_as_it_was_written(tmp_path, record):
    save_run(tmp_path / "a", record)
    assert load_run(tmp_path / "a") == record


def test_a_record_holds_no_credentials_of_its_store(tmp_path, record):
    config = record.config.model_copy(update={"store": "s3://user:canary-secret@bucket/store"})
    save_run(tmp_path, record.model_copy(update={"config": config}))
    text = (tmp_path / RECORD).read_text()
    assert "canary" not in text
    assert "s3://***@bucket/store" in text


def test_a_run_is_named_by_what_decides_its_outcome(make_config):
    config = make_config()
    data = Dataset(config.data)
    same = make_config("placement.label_actors=5", "tracking.project=other")
    assert run_id(same, data) == run_id(config, data)
    assert run_id(make_config("recipe.seed=1"), data) != run_id(config, data)
    assert run_id(config, data).startswith("quick-")


def test_a_run_is_found_by_its_name_its_beginning_or_its_folder(tmp_path, record):
    for name in ("digits-1", "digits-12", "other-3"):
        save_run(tmp_path / name, record)
    assert find_run(tmp_path, "digits-1") == tmp_path / "digits-1"
    assert find_run(tmp_path, "oth") == tmp_path / "other-3"
    assert find_run(tmp_path / "nowhere", str(tmp_path / "other-3")) == tmp_path / "other-3"


def test_a_name_that_fits_no_run_or_several_lists_them(tmp_path, record):
    for name in ("digits-1", "digits-2"):
        save_run(tmp_path / name, record)
    with pytest.raises(ConfigError, match="several runs begin with 'dig': digits-1, digits-2"):
        find_run(tmp_path, "dig")
    with pytest.raises(ConfigError, match="no run 'x' in .*: digits-1, digits-2"):
        find_run(tmp_path, "x")


def test_a_folder_without_a_record_or_with_a_torn_one_is_told_apart(tmp_path):
    with pytest.raises(StoreError, match="holds no run"):
        load_run(tmp_path)
    (tmp_path / RECORD).write_text('{"run": "a"')
    with pytest.raises(StoreError, match="can't be read"):
        load_run(tmp_path)
