"""One flipped bit in any stored file is refused, and the message names the file."""

import shutil
from pathlib import Path

import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DataError
from orchestrator.store.store import Store
from tests.orchestrator.helpers import play


def flip(path: Path, share: float) -> bytes:
    """Flip one bit of a file; its content before."""
    before = path.read_bytes()
    after = bytearray(before)
    after[int(share * len(after))] ^= 4
    path.write_bytes(bytes(after))
    return before


@pytest.mark.slow
def test_a_flipped_bit_in_any_file_of_any_step_is_found_and_named(make_config):
    config = make_config(
        "recipe.training.steps={first_round: 4, base: 4}", "recipe.policy.num_rounds=1"
    )
    play(config)
    root = Path(config.store)
    paths = sorted(p for p in root.rglob("*") if p.is_file())
    assert {p.suffix for p in paths} >= {".safetensors", ".parquet", ".json"}
    missed = []
    for number, path in enumerate(paths):
        before = flip(path, share=(number % 10) / 10)
        _, kind, address, name = path.relative_to(root).parts
        faults = Store(root).faults(kind, address)
        if len(faults) != 1 or f"{address}/{name}" not in faults[0]:
            missed.append((path, faults))
        path.write_bytes(before)
    assert missed == []


def test_a_flipped_bit_in_any_table_of_a_data_set_is_found_and_named(digits, tmp_path):
    root = Path(shutil.copytree(digits, tmp_path / "data"))
    manifest = Dataset(root).manifest
    splits = (manifest.labelled, manifest.pool, manifest.hidden, manifest.validation, manifest.test)
    for number, entry in enumerate(entry for split in splits for entry in split.files):
        before = flip(root / entry.name, share=(number % 10) / 10)
        with pytest.raises(DataError, match=rf"{entry.name} was changed since it was prepared"):
            Dataset(root).read(entry)
        (root / entry.name).write_bytes(before)
        assert Dataset(root).read(entry).num_rows == entry.rows
