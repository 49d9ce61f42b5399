"""The README and docs stay true: links exist, commands exist, methods are listed."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cluster.cli.main import app
from orchestrator.cli.info_commands import methods_table
from orchestrator.loading import load_config
from orchestrator.methods import load_method, method_names

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "cluster" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_named_in_backticks_exists(page):
    folders = "orchestrator|trainables|search_spaces|cluster|tests|benchmarks|examples|docs"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_in_the_text_is_one(page):
    commands = get_command(app).commands
    used = re.findall(r"selftrain ([a-z]+)\b", page.read_text())
    assert set(used) <= set(commands)


def test_the_readmes_table_of_methods_is_the_one_that_the_methods_give():
    table = methods_table({name: load_method(name) for name in method_names()})
    assert table in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/*.yaml")), ids=lambda p: p.name)
def test_every_example_is_a_valid_config(example):
    config = load_config(example)
    assert config.method in method_names()
    assert load_method(config.method).recipe.policy.num_rounds >= 1
