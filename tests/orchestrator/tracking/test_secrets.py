"""Secrets: values of secret variables and credentials in URIs are hidden wherever they stand."""

import pytest

from orchestrator.tracking.secrets import HIDDEN, redact

CANARY = "canary-0123456789"


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "db_password",
        "MY_PASSWD",
        "CREDENTIALS",
    ],
)
def test_values_of_secret_variables_are_hidden(monkeypatch, name):
    monkeypatch.setenv(name, CANARY)
    assert redact(f"login with {CANARY} failed") == f"login with {HIDDEN} failed"


def test_secrets_are_hidden_in_keys_lists_and_deep_inside(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    value = {"a": [{"b": (CANARY, 1)}], f"x {CANARY}": None, "n": 0.5}
    assert redact(value) == {"a": [{"b": [HIDDEN, 1]}], f"x {HIDDEN}": None, "n": 0.5}


def test_values_of_other_variables_and_very_short_ones_stay(monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", "canary-folder")
    monkeypatch.setenv("EMPTY_KEY", "")
    monkeypatch.setenv("SHORT_KEY", "a")
    assert redact("canary-folder a b") == "canary-folder a b"


@pytest.mark.parametrize(
    ("uri", "hidden"),
    [
        ("s3://key:canary@bucket/path", "s3://***@bucket/path"),
        ("https://canary@host", "https://***@host"),
        ("s3://key:can@ary@bucket/path", "s3://***@bucket/path"),
        ("at ray://u:canary@h:1 and s3://v:canary@b", "at ray://***@h:1 and s3://***@b"),
    ],
)
def test_credentials_in_uris_are_hidden(uri, hidden):
    assert redact(uri) == hidden


@pytest.mark.parametrize("text", ["s3://bucket/a@b", "me@host", "torchvision:MNIST@/data", "a://b"])
def test_texts_without_credentials_stay_as_they_are(text):
    assert redact(text) == text
