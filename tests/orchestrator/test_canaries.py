"""Secrets of the environment are in no byte that a run or a sweep writes or prints."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

NAMES = (
    "WANDB_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "HF_TOKEN",
    "MY_PASSWORD",
)
LABELS = """
import logging, os
def told(images):
    secrets = " ".join(os.environ[name] for name in os.environ["NAMES"].split())
    logging.getLogger("a library").warning("about to use %s", secrets)
    raise ValueError(f"login with {secrets} failed; s3://key:{secrets.split()[0]}@bucket")
"""
BROKEN = """
import logging, os
def told(images):
    if len(images) == 1:  # tried on one empty image first
        return images.flatten(1)[:, :10]
    logging.getLogger("a library").warning("about to use %s", os.environ["AWS_SESSION_TOKEN"])
    raise KeyError(os.environ["HF_TOKEN"])
"""


def found_in(folder: Path, canaries: list[str]) -> list[str]:
    """Files below a folder that hold a canary, in their content or their name."""
    found = []
    for path in sorted(folder.rglob("*")):
        text = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        if any(canary.encode() in text for canary in canaries):
            found.append(str(path))
    return found


@pytest.mark.parametrize(
    ("command", "labels"), [("run", BROKEN), ("sweep", LABELS)], ids=["run", "sweep"]
)
def test_no_secret_is_written_or_printed(make_config, tmp_path, labels, command):
    (code := tmp_path / "code").mkdir()
    (code / "my_labels.py").write_text(labels)
    source = {"kind": "callable", "target": "my_labels:told", "rounds": "all"}
    config = make_config(
        "recipe.training.steps={first_round: 4, base: 4}",
        f"recipe.labelling.foreign=[{json.dumps(source)}]",
        "recipe.policy.num_rounds=1",
        "tracking.wandb=offline",
        "placement.threads=1",
        *(
            ["sweep={trials: 1, space: {recipe.seed: {low: 0, high: 1}}}"]
            if command == "sweep"
            else []
        ),
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.plain()))
    canaries = {name: f"canary-{uuid.uuid4().hex}" for name in NAMES}
    env = {**os.environ, **canaries, "NAMES": " ".join(NAMES), "PYTHONPATH": f"{Path.cwd()}:{code}"}
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine api.example login user password {(own := uuid.uuid4().hex)}\n")
    netrc.chmod(0o600)
    told = f"tracking.group={canaries['MY_PASSWORD']}"
    path = str(tmp_path / "config.yaml")
    whole = [sys.executable, "-m", "orchestrator", command, path, "--set", told]
    done = subprocess.run(
        whole, env=env | {"NETRC": str(netrc)}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode != 0, done.stdout
    assert "***" in done.stderr, done.stderr
    netrc.unlink()
    hidden = [*canaries.values(), own]
    assert not [c for c in hidden if c in done.stdout + done.stderr]
    assert found_in(tmp_path, hidden) == []
    (events,) = config.runs.glob("*/events.jsonl")
    assert "***" in events.read_text()
    if command == "sweep":  # a run that fails before its first step is done opens none
        assert list(config.runs.glob("*/wandb/offline-run-*"))
