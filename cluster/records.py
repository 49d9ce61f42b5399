"""What `submit` leaves beside the run's records, so that status, logs and stop find it again."""

from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.launch import LaunchRecord
from orchestrator.runs import find_folder, load_record, save_record

RECORD = "launch.json"


def save_launch(runs: Path, record: LaunchRecord) -> Path | None:
    """Write the record below the folder of runs; None where that folder isn't one of this host."""
    try:
        (runs / record.run).mkdir(parents=True, exist_ok=True)
        save_record(runs / record.run / RECORD, record)
    except OSError:
        return None
    return runs / record.run / RECORD


def find_launch(runs: Path, name: str) -> LaunchRecord:
    """The record of a run that was submitted from here.

    Raises:
        ConfigError: There is none, or several begin so.
    """
    try:
        folder = find_folder(runs, name, RECORD, "submitted run")
    except ConfigError as error:
        raise ConfigError(
            f"{error}; if it was submitted elsewhere, say where it runs with --to, its whole "
            "identity, and --launch FILE"
        ) from error
    return load_record(folder / RECORD, LaunchRecord, "submitted run")
