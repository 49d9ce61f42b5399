"""The command line in this process, in a folder of its own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from orchestrator.cli.main import main
from orchestrator.config import RunConfig

Selftrain = Callable[..., int]


@pytest.fixture
def selftrain(monkeypatch, tmp_path) -> Selftrain:
    """Runs the command line in this process, in a folder of its own; its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["selftrain", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def write(tmp_path) -> Callable[[RunConfig], Path]:
    """Writes a config as a file."""

    def write_config(config: RunConfig) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config.plain()))
        return path

    return write_config
