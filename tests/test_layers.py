"""The packages' arrows and the doors of big dependencies, read from every module's imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("cluster", "orchestrator", "search_spaces", "trainables")
MAY_IMPORT = {
    "cluster": {"cluster", "orchestrator"},
    "orchestrator": {"orchestrator", "trainables", "search_spaces"},
    "trainables": {"trainables"},
    "search_spaces": {"search_spaces"},
}
NEVER_IMPORTS = {
    "cluster": {"torch", "timm"},
    "orchestrator": set(),
    "trainables": {"optuna", "wandb", "orchestrator"},
    "search_spaces": {"torch", "ray", "optuna", "wandb"},
}
DOORS = {
    "timm": {"trainables/models.py"},
    "kornia": {"trainables/augment.py"},
    "wandb": {"orchestrator/tracking/wandb_projection.py"},
    "optuna": {"orchestrator/sweep/study.py"},
    "jsonschema": {"cluster/kube_rules.py"},
    "cv2": {"trainables/landmarks/flow.py"},
    "av": {"orchestrator/data/video.py"},
    "ray": {
        "cluster/ray_jobs.py",
        "orchestrator/ray_session.py",
        "orchestrator/engines/board.py",
        "orchestrator/engines/ray_engine.py",
        "orchestrator/sweep/tune_trials.py",
        "orchestrator/tracking/ray_metrics_projection.py",
    },
}


def imported(text: str) -> set[str]:
    """Top-level names that a module's source imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add((node.module or "").partition(".")[0])
    return names


def modules(package: str) -> dict[str, set[str]]:
    """What each module of a package imports, by path."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {p.relative_to(ROOT).as_posix(): imported(p.read_text()) for p in paths}


def users(library: str) -> set[str]:
    """Modules of ours that import a library."""
    return {
        path for package in OURS for path, names in modules(package).items() if library in names
    }


def test_imports_inside_functions_and_under_other_names_are_seen():
    text = "import a.b as c\ndef f():\n    from d.e import g\n"
    assert imported(text) == {"a", "d"}


@pytest.mark.parametrize("package", OURS)
def test_a_package_imports_only_those_of_ours_that_lie_below_it(package):
    found = modules(package)
    assert found
    wrong = {path: names & set(OURS) - MAY_IMPORT[package] for path, names in found.items()}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.parametrize("package", OURS)
def test_a_package_never_imports_what_belongs_to_another_layer(package):
    wrong = {path: names & NEVER_IMPORTS[package] for path, names in modules(package).items()}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.parametrize("library", DOORS)
def test_a_big_dependency_is_imported_through_its_doors_only(library):
    assert users(library) == DOORS[library]
