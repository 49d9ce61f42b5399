"""Ray's answers in our words, and the names of attempts."""

from types import SimpleNamespace

import pytest

from cluster.ray_jobs import auth_token, explain, passing
from cluster.ray_launcher import attempt_of, next_attempt, standing_of
from orchestrator.errors import InfeasibleError

TRACE = """Request failed with status code 400: Traceback (most recent call last):
  File "job_manager.py", line 553, in submit_job
ValueError: Job with submission_id quick-1 already exists. Please use a different submission_id.
."""


def details(status: str, code: int | None = None, message: str = "") -> SimpleNamespace:
    return SimpleNamespace(
        status=status, driver_exit_code=code, message=message, entrypoint="exec python"
    )


@pytest.mark.parametrize(
    ("job", "state", "code"),
    [
        (details("PENDING"), "waiting", 1),
        (details("RUNNING"), "running", 1),
        (details("SUCCEEDED", 0), "finished", 0),
        (details("STOPPED"), "stopped", 75),
        (details("FAILED", 75), "stopped", 75),
        (details("FAILED", 4, "long log"), "failed", 4),
        (details("FAILED", None, "no  such\npackage"), "failed", 1),
    ],
)
def test_a_jobs_status_becomes_a_state_and_an_exit_code(job, state, code):
    standing = standing_of(job)
    assert (standing.state, standing.code) == (state, code)


def test_the_reason_of_a_job_that_never_started_is_told_on_one_line():
    line = standing_of(details("FAILED", None, "no  such\npackage")).line("quick-1")
    assert line == "quick-1: failed; no such package; submit it again to go on from the store"


def test_attempts_are_numbered_and_never_mistaken_for_those_of_another_run():
    assert next_attempt("quick-1", None) == "quick-1"
    assert next_attempt("quick-1", "quick-1") == "quick-1--2"
    assert next_attempt("quick-1", "quick-1--9") == "quick-1--10"
    assert [attempt_of("quick-1", each) for each in ("quick-1", "quick-1--3")] == [1, 3]
    assert not any(attempt_of("quick-1", each) for each in ("quick-12", "quick-1--x", "quick-2--2"))


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionError("Failed to connect to Ray at address: http://h:8265."), True),
        (RuntimeError("status code 500: No available agent to submit job"), True),
        (RuntimeError("Request failed with status code 503: busy."), True),
        (RuntimeError(TRACE), False),
        (ValueError("working_dir"), False),
    ],
)
def test_only_what_passes_is_tried_again(error, again):
    assert passing(error) is again


def test_a_refusal_is_told_by_its_reason_and_not_by_its_traceback():
    text = str(explain(RuntimeError(TRACE), "http://h:8265"))
    assert "already exists" in text
    assert "Traceback" not in text and "\n" not in text


def test_the_token_is_looked_for_where_ray_looks(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert auth_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of home\n")
    assert auth_token() == "of home"
    (tmp_path / "named").write_text("of file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert auth_token() == "of file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of variable")
    assert auth_token() == "of variable"


def test_a_named_token_file_that_is_missing_is_an_error(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InfeasibleError, match="RAY_AUTH_TOKEN_PATH"):
        auth_token()
