import os
import subprocess
import sys

from orchestrator.environment import SETTINGS, prepare_environment


def test_what_the_user_has_set_stays(monkeypatch):
    names = list(SETTINGS)
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(names[0], "mine")
    prepare_environment()
    assert {name: os.environ[name] for name in names} == SETTINGS | {names[0]: "mine"}


def test_a_users_malloc_settings_that_are_no_numbers_do_no_harm():
    code = "from orchestrator.environment import prepare_environment as p; p(); p()"
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "many"}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
