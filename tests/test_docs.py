"""The README and docs stay true: links lead somewhere, commands and configs can be read."""

import json
import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from benchmarks.methods import table
from cluster.cli.main import app
from orchestrator.cli.info_commands import methods_table
from orchestrator.loading import build_config, load_config
from orchestrator.methods import load_method, method_names
from orchestrator.sweep.space import resolve_space

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "cluster" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a language, without their fences."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind `selftrain` of every command that a page tells its reader to type."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";&")
            lexer.whitespace_split = True
            for apart, words in groupby(lexer, key=lambda word: word in (";", "&&")):
                command = list(words)
                if not apart and command[0] == "selftrain":
                    yield command[1:]


UsageError = typer.BadParameter.__base__
"""What Typer raises where a command can't be read; it exports what derives from it."""


def parsed(words: list[str]) -> dict[str, Any]:
    """The arguments and options of a command by name, read but not acted on.

    Raises:
        UsageError: There is no such command, argument or option, or one is missing.
    """
    command = get_command(app)
    context = command.make_context("selftrain", list(words))
    while isinstance(command, TyperGroup):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context.params


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
    used = re.findall(r"selftrain ([a-z]+)\b", page.read_text())
    assert set(used) <= set(get_command(app).commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_to_type_has_the_arguments_and_options_that_it_takes(page):
    for words in commands(page):
        parsed(words)


def test_a_command_with_an_option_that_it_does_not_take_would_be_found():
    with pytest.raises(UsageError):
        parsed(["run", "examples/digits.yaml", "--seed", "1"])
    with pytest.raises(UsageError):
        parsed(["store", "remove"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_configs_that_commands_name_are_valid_with_what_they_override(page):
    found = [parsed(words) for words in commands(page)]
    named = [each for each in found if str(each.get("config", "")).startswith("examples/")]
    for each in named:
        load_config(ROOT / each["config"], each.get("overrides") or ())
    assert named or page != ROOT / "README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_piece_of_a_config_in_the_text_is_valid(page):
    for block in blocks(page, "yaml"):
        config = build_config({"name": "piece", "data": "data/digits"} | yaml.safe_load(block))
        if config.sweep is not None:
            resolve_space(config)


def test_the_readmes_table_of_methods_is_the_one_that_the_methods_give():
    listed = methods_table({name: load_method(name) for name in method_names()})
    assert listed in (ROOT / "README.md").read_text()


def test_the_printed_table_of_the_benchmark_is_the_one_that_its_stored_runs_give():
    runs = json.loads((ROOT / "benchmarks" / "results" / "methods.json").read_text())
    lines = [line for line in table(runs).splitlines() if line.startswith("|")]
    assert "\n".join(lines) in (ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/*.yaml")), ids=lambda p: p.name)
def test_every_example_is_a_valid_config(example):
    config = load_config(example)
    assert config.method in method_names()
    assert load_method(config.method).recipe.policy.num_rounds >= 1
