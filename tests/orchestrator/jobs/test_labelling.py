"""Labelling: every pool row is labelled once or refused with its reason."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.dataset import MANIFEST, Dataset, Split
from orchestrator.errors import DataError
from orchestrator.store.store import Store, entry_of
from tests.orchestrator.helpers import play, table_of
from trainables import schemas


def break_rows(source: Path, out: Path, number: int) -> list[str]:
    """A copy of a data set where the first rows of fragment 1 are no images; their ids."""
    shutil.copytree(source, out)
    data = Dataset(out)
    files = list(data.manifest.pool.files)
    table = pq.read_table(out / files[1].name)
    images = [b"no image"] * number + table["image"].to_pylist()[number:]
    table = pa.table([table["example_id"], pa.array(images, pa.binary())], schema=schemas.pool())
    pq.write_table(table, out / files[1].name)
    files[1] = entry_of(files[1].name, (out / files[1].name).read_bytes(), table.num_rows)
    manifest = data.manifest.model_copy(update={"pool": Split(files=tuple(files))})
    (out / MANIFEST).write_text(manifest.model_dump_json())
    return table["example_id"].to_pylist()[:number]


@pytest.mark.slow
@pytest.mark.parametrize("consistency", [False, True])
def test_rows_that_are_no_images_are_refused_with_the_reason_and_counted(
    make_config, digits, tmp_path, consistency
):
    bad = break_rows(digits, tmp_path / "broken", 3)
    settings = (
        [
            "recipe.training.batch.pool=32",
            "recipe.training.objective.consistency.selector={kind: threshold, threshold: 0.5}",
        ]
        if consistency
        else []
    )
    config = make_config(*settings, data=tmp_path / "broken")
    record = play(config)
    store = Store(config.store)
    for each in record.rounds:
        label = store.record("label", each.steps["label"].address)
        assert (label.counts["rows"], label.counts["refused"]) == (1044, 3)
        refused = store.read_table(label, "refused.parquet").to_pylist()
        assert sorted(r["example_id"] for r in refused) == sorted(bad)
        assert {r["reason"] for r in refused} == {"not an image"}
        ids = table_of(config.store, "label", label.address)["example_id"].to_pylist()
        assert not set(ids) & set(bad)
        chosen = table_of(config.store, "select", each.steps["select"].address)
        assert not set(chosen["example_id"].to_pylist()) & set(bad)


@pytest.mark.slow
def test_too_many_refused_rows_stop_the_run_and_name_the_setting(make_config, digits, tmp_path):
    break_rows(digits, tmp_path / "broken", 30)
    config = make_config(data=tmp_path / "broken")
    with pytest.raises(DataError, match="30 of 1047 .* placement.most_refused_share") as caught:
        play(config)
    assert caught.value.exit_code == 4
    allowed = make_config("placement.most_refused_share=0.05", data=tmp_path / "broken")
    assert play(allowed).status == "finished"


@pytest.mark.slow
def test_averaging_with_the_mirror_image_makes_both_agree(make_config):
    config = make_config("recipe.labelling.flips=true", "recipe.labelling.temperature=2.0")
    plain = make_config()
    averaged, single = (
        table_of(c.store, "label", play(c).rounds[0].steps["label"].address)
        for c in (config, plain)
    )
    assert averaged["example_id"].equals(single["example_id"])
    assert max(averaged["confidence"].to_pylist()) < max(single["confidence"].to_pylist())


@pytest.mark.slow
def test_labelling_in_bfloat16_says_nearly_the_same_in_float32(make_config):
    tables = [
        table_of(c.store, "label", play(c).rounds[0].steps["label"].address)
        for c in (make_config(), make_config("recipe.labelling.precision=bfloat16"))
    ]
    wide, narrow = (np.stack(t["log_probs"].to_pylist()) for t in tables)
    assert tables[0].schema == tables[1].schema
    assert not np.array_equal(wide, narrow)
    assert np.abs(np.exp(wide) - np.exp(narrow)).max() < 0.05
