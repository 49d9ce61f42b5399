"""Names in a manifest never lead out of the data set, and ids never become paths."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from orchestrator.data.dataset import MANIFEST, Dataset, PrepareSpec
from orchestrator.data.prepare import prepare
from orchestrator.errors import DataError, StoreError
from orchestrator.store.record import FileEntry
from orchestrator.store.store import Store
from tests.orchestrator.store.worker import IDENTITY
from trainables.images import encode

ESCAPES = (
    "../../etc/passwd",
    "/etc/passwd",
    "pool/../../x",
    "..",
    ".",
    "",
    "a//b",
    "a/./b",
    "..\\x",
    "a\x00b",
    "a\nb",
)


@pytest.fixture
def copied(digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "data"))


def plant(root: Path, split: str, name: str) -> None:
    """Change the name of a split's first file in the manifest."""
    manifest = json.loads((root / MANIFEST).read_text())
    manifest[split]["files"][0]["name"] = name
    (root / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("split", ["labelled", "hidden"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(copied, split, name):
    plant(copied, split, name)
    with pytest.raises(DataError, match=f"{split}.files.0.name"):
        Dataset(copied)


@pytest.mark.parametrize("name", ESCAPES)
def test_no_file_entry_has_such_a_name(name):
    with pytest.raises(ValidationError, match=r"plain relative name inside the folder|at least"):
        FileEntry(name=name, num_bytes=0, sha256="0" * 64)


def test_a_record_that_names_a_file_elsewhere_is_refused(tmp_path):
    store = Store(tmp_path)
    folder = store.folder("train", IDENTITY.address)
    entry = {"name": "../../x", "num_bytes": 0, "sha256": "0" * 64}
    record = {"address": IDENTITY.address, "kind": "train", "identity": {}, "files": [entry]}
    store.files.write(f"{folder.prefix}/record.json", json.dumps(record | {"seconds": 1}).encode())
    with pytest.raises(StoreError, match=r"record\.json is no record"):
        store.record("train", IDENTITY.address)


def test_a_file_that_is_a_link_out_of_the_data_set_is_refused(copied, tmp_path):
    data = Dataset(copied)
    (entry,) = data.manifest.labelled.files
    (copied / entry.name).rename(tmp_path / "elsewhere")
    (copied / entry.name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"{entry.name} leads out of the data set, to .*elsewhere"):
        data.read(entry)


def test_a_data_set_may_be_reached_by_a_link_and_hold_links_inside(copied, tmp_path):
    (tmp_path / "link").symlink_to(copied)
    (entry,) = Dataset(copied).manifest.labelled.files
    (copied / entry.name).rename(copied / "moved")
    (copied / entry.name).symlink_to(copied / "moved")
    assert Dataset(tmp_path / "link").read(entry).num_rows == entry.rows


def test_ids_that_look_like_paths_name_no_file(tmp_path):
    ids = ["../../evil", "/evil", "..", "a/b", "evil\x00", "%2e%2e/evil", "C:\\evil", " "]
    pixels = [
        encode(pa.array(range(i, i + 64)).to_numpy().astype("uint8").reshape(8, 8))
        for i in range(40)
    ]
    names = [f"{ids[i % len(ids)]}{i if i >= len(ids) else ''}" for i in range(40)]
    table = pa.table(
        {"image": pixels, "example_id": names, "label": [str(i % 2) for i in range(40)]}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    spec = PrepareSpec(labelled_per_class=4, validation=4, test=4, fragment_rows=8)
    prepare(f"parquet:{tmp_path / 'in.parquet'}", out, spec)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    manifest = Dataset(out).manifest
    splits = (manifest.labelled, manifest.pool, manifest.hidden, manifest.validation, manifest.test)
    expected = {f"deep/out/{e.name}" for s in splits for e in s.files}
    assert written == expected | {"in.parquet", f"deep/out/{MANIFEST}"}
    kept = [Dataset(out).table(s, ["example_id"])["example_id"].to_pylist() for s in splits]
    assert set(names) == {name for part in kept for name in part}
