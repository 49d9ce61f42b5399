"""Nothing that is stored is ever unpickled: read from every source, and tried with a bomb."""

import ast
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.models import read_weights

ROOT = Path(__file__).parent.parent
OURS = ("cluster", "orchestrator", "search_spaces", "trainables", "examples", "benchmarks")
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NEVER = {"eval", "exec", "compile", "__import__", "os.system", "torch.save"} | {
    f"yaml.{name}" for name in ("load", "unsafe_load", "full_load")
}


def complaints(text: str) -> list[str]:
    """What in a module's source could run what a file holds."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.partition(".")[0] in PICKLERS]
        elif isinstance(node, ast.ImportFrom):
            found += (
                [node.module or ""] if (node.module or "").partition(".")[0] in PICKLERS else []
            )
        elif isinstance(node, ast.Call):
            found += of_call(node)
    return found


def of_call(node: ast.Call) -> list[str]:
    called = ast.unparse(node.func)
    true = {k.arg for k in node.keywords if getattr(k.value, "value", None) is True}
    bad = called in NEVER or called.endswith((".extractall", ".unpack_archive"))
    bad |= called == "torch.load" and "weights_only" not in true
    return [called] if bad or true & {"allow_pickle", "shell"} else []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
        "subprocess.run(command, shell=True)",
        "tar.extractall(folder)",
        "torch.save(model, path)",
    ],
)
def test_the_scan_finds_what_it_looks_for(text):
    assert complaints(text)


def test_the_scan_lets_safe_readers_pass():
    safe = "torch.load(p, weights_only=True); np.load(p); yaml.safe_load(t); module.eval()"
    assert complaints(safe) == []


def test_no_module_of_ours_can_run_what_a_file_holds():
    paths = sorted(p for package in OURS for p in (ROOT / package).rglob("*.py"))
    assert len(paths) > 100
    found = {p.relative_to(ROOT).as_posix(): complaints(p.read_text()) for p in paths}
    assert {path: what for path, what in found.items() if what} == {}


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return Path.write_text, (self._path, "boom")


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "weights.safetensors"])
@pytest.mark.parametrize("form", ["plain", "torch", "old torch"])
def test_a_weights_file_that_is_a_pickle_bomb_is_refused_and_not_run(tmp_path, name, form):
    boom, path = tmp_path / "boom", tmp_path / name
    if form == "plain":
        path.write_bytes(pickle.dumps(Bomb(boom)))
    else:
        content = {"weight": torch.zeros(1), "bomb": Bomb(boom)}
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(ValueError, match=f"{name} is no file of weights"):
        read_weights(path)
    assert not boom.exists()


def test_a_weights_file_that_holds_a_whole_network_is_refused(tmp_path):
    torch.save(nn.Linear(1, 1), tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"network\.pt is no file of weights"):
        read_weights(tmp_path / "network.pt")
