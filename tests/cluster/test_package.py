"""The copy of the working folder: what is in it, how large it may be."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from cluster.package import MOST_BYTES, Package, package_of
from orchestrator.errors import ConfigError, InfeasibleError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    """A folder with a config, code, and what must not be copied."""
    for name, size in {
        "run.yaml": 10,
        "code/model.py": 300,
        "code/data/rows.py": 40,
        "code/__pycache__/model.pyc": 5,
        "data/digits/pool.parquet": 1000,
        "store/steps/a": 1000,
        "runs/r/run.json": 1000,
        ".venv/bin/python": 1000,
        ".env": 9,
        "keys/host.pem": 9,
        "notes/big.txt": 2000,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    return tmp_path


def names(package: Package) -> list[str]:
    return [name for name, _ in package.files]


def test_data_outputs_environments_caches_and_keys_stay_out(folder):
    package = package_of(folder, (), "run.yaml")
    assert names(package) == ["code/data/rows.py", "code/model.py", "notes/big.txt", "run.yaml"]
    assert package.num_bytes == 2350
    assert package.largest(1) == [("notes/big.txt", 2000)]


@pytest.mark.parametrize("pattern", ["notes", "notes/", "notes/*.txt", "*.txt", "big.txt"])
def test_what_a_pattern_meets_stays_out(folder, pattern):
    assert "notes/big.txt" not in names(package_of(folder, (pattern,), "run.yaml"))


def test_a_glob_from_the_root_spares_folders_of_the_same_name_below(folder):
    assert "code/data/rows.py" in names(package_of(folder, ("/rows.py",), "run.yaml"))
    assert "code/data/rows.py" not in names(package_of(folder, ("data",), "run.yaml"))


def test_the_copy_of_this_project_has_all_of_its_modules():
    copied = names(package_of(ROOT, (), "pyproject.toml"))
    for package in ("cluster", "orchestrator", "search_spaces", "trainables"):
        modules = (path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py"))
        assert set(modules) <= set(copied)


def test_what_git_ignores_stays_out_of_a_checkout(folder):
    (folder / ".gitignore").write_text("notes/\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    kept = [".gitignore", "code/data/rows.py", "code/model.py", "run.yaml"]
    assert names(package_of(folder, (), "run.yaml")) == kept


def test_a_config_that_would_not_be_copied_is_an_error(folder):
    with pytest.raises(ConfigError, match="run.yaml isn't among the files"):
        package_of(folder, ("*.yaml",), "run.yaml")


def test_a_large_copy_is_refused_with_its_largest_files(tmp_path):
    package = Package(tmp_path, (("a", 5), ("movie.mp4", MOST_BYTES)))
    with pytest.raises(InfeasibleError, match=r"launch.exclude(.|\n)*movie.mp4"):
        package.check()


def test_the_same_files_make_the_same_bytes(folder, tmp_path):
    package = package_of(folder, (), "run.yaml")
    package.write(folder / "one.zip")
    (folder / "run.yaml").touch()
    package.write(folder / "two.zip")
    assert (folder / "one.zip").read_bytes() == (folder / "two.zip").read_bytes()
    with zipfile.ZipFile(folder / "one.zip") as archive:
        assert archive.namelist() == names(package)
