"""Embedding: a data set of images becomes one of features, whatever interrupts it."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.config import Placement
from orchestrator.data.dataset import Dataset, Manifest, PrepareSpec
from orchestrator.data.embed import MADE_BY, EmbedSpec, embed
from orchestrator.data.prepare import prepare
from orchestrator.engines.local_engine import LocalEngine
from orchestrator.errors import ConfigError, DataError, Interrupted
from orchestrator.reads import form_of
from orchestrator.runs import RunRecord
from orchestrator.watch import Silent
from tests.orchestrator.helpers import play, table_of
from trainables import schemas

MODEL, WIDTH = "test_resnet", 96
SPLITS = ("labelled", "pool", "validation", "test")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A small network with weights of its own, as a file."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(MODEL, num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Digits in small files, few of them in the pool."""
    out = tmp_path_factory.mktemp("few") / "digits"
    prepare(
        "digits",
        out,
        PrepareSpec(labelled_per_class=4, validation=100, test=1500, fragment_rows=64),
    )
    return out


class StopsAfter(Silent):
    """Asks to stop once some files are done."""

    def __init__(self, files: int) -> None:
        self.left = files

    def stopping(self) -> bool:
        self.left -= 1
        return self.left <= 0


def make(few: Path, out: Path, weights: Path, watch=None, **settings) -> Manifest:
    spec = EmbedSpec(model=MODEL, checkpoint=weights, size=32, **settings)
    return embed(Dataset(few), out, spec, LocalEngine(Placement()), watch or Silent())


@pytest.fixture(scope="module")
def embedded(few, weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("embedded") / "features"
    make(few, out, weights)
    return out


@pytest.mark.slow
def test_ids_splits_labels_and_hidden_labels_stay(few, embedded):
    old, new = Dataset(few), Dataset(embedded)
    assert new.manifest.embedding is not None
    assert new.manifest.embedding.width == WIDTH
    for name in (*SPLITS, "hidden"):
        before, after = (d.table(getattr(d.manifest, name)) for d in (old, new))
        kept = [column for column in before.column_names if column != "image"]
        assert after.select(kept).equals(before.select(kept))
    content = schemas.features(WIDTH)
    for name, schema in (("labelled", schemas.labelled), ("pool", schemas.pool)):
        schemas.conform(new.table(getattr(new.manifest, name)), schema(content), name)
    assert not new.files.exists(MADE_BY)


@pytest.mark.slow
def test_features_do_not_depend_on_how_rows_are_cut(few, weights, embedded, tmp_path):
    make(few, tmp_path / "again", weights, rows_per_pass=7)
    for name in SPLITS:
        first, second = (
            np.array(d.table(getattr(d.manifest, name))["features"].to_pylist(), np.float32)
            for d in (Dataset(embedded), Dataset(tmp_path / "again"))
        )
        assert np.allclose(first, second, atol=2e-3)
        assert first.std() > 0


@pytest.mark.slow
def test_interrupted_is_uninterrupted(few, weights, embedded, tmp_path):
    out = tmp_path / "features"
    with pytest.raises(Interrupted, match="finished ones stay"):
        make(few, out, weights, StopsAfter(2))
    assert (out / MADE_BY).is_file()
    assert make(few, out, weights) == Dataset(embedded).manifest
    assert make(few, out, weights) == Dataset(embedded).manifest, "a third time reads it"


def test_what_stands_in_the_folder_is_never_overwritten(few, weights, embedded, tmp_path):
    with pytest.raises(DataError, match="another data set"):
        embed(
            Dataset(few),
            embedded,
            EmbedSpec(model=MODEL, checkpoint=weights, size=40),
            LocalEngine(Placement()),
            Silent(),
        )
    with pytest.raises(DataError, match="another data set"):
        make(few, few, weights)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="not empty"):
        make(few, tmp_path, weights)
    with pytest.raises(Interrupted):
        make(few, tmp_path / "begun", weights, StopsAfter(1))
    with pytest.raises(DataError, match="beginning of another embedding"):
        embed(
            Dataset(few),
            tmp_path / "begun",
            EmbedSpec(model=MODEL, checkpoint=weights, size=40),
            LocalEngine(Placement()),
            Silent(),
        )


def test_features_are_not_embedded_again(embedded, weights, tmp_path):
    with pytest.raises(DataError, match="holds features already"):
        make(embedded, tmp_path / "twice", weights)


def test_a_network_that_is_unknown_or_does_not_load_is_a_fault_of_the_config(few, tmp_path):
    engine = LocalEngine(Placement())
    with pytest.raises(ConfigError, match="timm knows no model 'resnot18'"):
        embed(Dataset(few), tmp_path / "out", EmbedSpec(model="resnot18"), engine, Silent())
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    spec = EmbedSpec(model=MODEL, checkpoint=tmp_path / "broken.safetensors")
    with pytest.raises(ConfigError, match="no file of weights"):
        embed(Dataset(few), tmp_path / "out", spec, engine, Silent())
    assert not (tmp_path / "out").exists()


def test_features_are_split_anew_like_images(few, embedded, tmp_path):
    spec = PrepareSpec(labelled_per_class=2, validation=50, seed=5, fragment_rows=64)
    made = {
        kind: prepare(f"prepared:{root}", tmp_path / kind, spec)
        for kind, root in (("images", few), ("features", embedded))
    }
    images, features = (Dataset(tmp_path / kind) for kind in made)
    for name in (*SPLITS, "hidden"):
        first, second = (
            d.table(getattr(d.manifest, name), ["example_id"]) for d in (images, features)
        )
        assert first.equals(second)
    assert made["features"].embedding == Dataset(embedded).manifest.embedding
    assert made["images"].embedding is None
    assert (made["images"].size, made["images"].test.num_rows) == (8, 1500)
    assert made["images"].labelled.num_rows == 20
    assert made["images"].pool.num_rows == 1797 - 1500 - 50 - 20
    by_id = {
        row["example_id"]: row["features"]
        for name in SPLITS
        for row in Dataset(embedded).table(getattr(Dataset(embedded).manifest, name)).to_pylist()
    }
    for row in features.table(features.manifest.pool).to_pylist():
        assert row["features"] == by_id[row["example_id"]]


@pytest.mark.slow
def test_rounds_are_played_on_features(embedded, make_config):
    config = make_config(
        "recipe.student={kind: mlp, hidden: 32}", "recipe.policy.num_rounds=2", data=embedded
    )
    assert form_of(config, Dataset(embedded)).plain() == {"width": WIDTH}
    record: RunRecord = play(config)
    assert record.status == "finished"
    told = table_of(config.store, "label", record.rounds[0].steps["label"].address)
    assert told.num_rows == Dataset(embedded).manifest.pool.num_rows
    again: RunRecord = play(config.model_copy(update={"name": "again"}))
    assert all(step.from_store for each in again.rounds for step in each.steps.values())


def test_what_only_images_have_is_refused_all_at_once(embedded, make_config):
    config = make_config("recipe.labelling.flips=true", "recipe.images.size=12", data=embedded)
    with pytest.raises(ConfigError, match="holds features") as told:
        play(config)
    for part in ("student.kind is small_cnn, must be mlp", "images has no effect", "flips"):
        assert part in str(told.value)


@pytest.mark.slow
def test_the_command_embeds_and_says_what_it_wrote(few, weights, tmp_path):
    out = str(tmp_path / "features")
    given = f"embed {few} --out {out} --model {MODEL} --checkpoint {weights} --size 32 --json"
    done = CliRunner().invoke(app, given.split())
    assert done.exit_code == 0
    assert done.stdout.strip() == f'{{"out": "{out}", "rows": 1797, "width": {WIDTH}}}'
