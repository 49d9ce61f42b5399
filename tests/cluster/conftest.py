"""The whole command line in this process, and a config in a folder of its own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cluster.cli.main import main
from orchestrator.config import RunConfig

Selftrain = Callable[..., int]
LAUNCH_ENV = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture
def selftrain(monkeypatch, tmp_path) -> Selftrain:
    """Runs the command line in this process, in a folder of its own; its exit code."""
    monkeypatch.chdir(tmp_path)
    for name in LAUNCH_ENV:
        monkeypatch.setenv(name, "")  # so that what a test leaves is taken back
        monkeypatch.delenv(name)

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["selftrain", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes a config, with a launch block, into the folder where the commands run."""

    def write_config(config: RunConfig, **launch: object) -> Path:
        path = tmp_path / "quick.yaml"
        plain = {k: v for k, v in config.plain().items() if k != "launch"}
        path.write_text(yaml.safe_dump(plain | ({"launch": launch} if launch else {})))
        return path

    return write_config
