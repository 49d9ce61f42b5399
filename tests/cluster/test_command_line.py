"""The whole command line: the commands that play runs, and those that start them elsewhere."""

import importlib.metadata

import pytest

from cluster.cli.main import app
from orchestrator.cli.main import app as played


def test_it_tells_its_version(selftrain, capsys):
    assert selftrain("--version") == 0
    assert capsys.readouterr().out == f"selftrain {importlib.metadata.version('selftrain')}\n"


def test_it_holds_every_command_of_the_orchestrator():
    names = {command.name for command in app.registered_commands}
    assert {command.name for command in played.registered_commands} <= names
    assert {"submit", "status", "logs", "stop"} <= names


@pytest.mark.parametrize("command", ["run", "submit", "methods"])
def test_a_command_says_what_it_does(selftrain, capsys, command):
    assert selftrain(command, "--help") == 0
    assert f"selftrain {command}" in capsys.readouterr().out
