"""Run records: small files that point at addresses."""

import glob
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from orchestrator.address import digest
from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, StoreError
from orchestrator.store.files import Files
from orchestrator.tracking.secrets import redact
from orchestrator.tracking.tracker import EVENTS
from trainables.spec import Spec
from trainables.step_tally import InStep

RECORD = "run.json"
AnyRecord = TypeVar("AnyRecord", bound=Spec)


class StepRef(Spec):
    """A step of a round, by address."""

    kind: str
    """Kind of the step."""
    address: str
    """Address in the store."""
    from_store: bool
    """Whether it was found rather than computed."""
    seconds: float
    """Wall time that this process spent on it, in seconds."""
    work_s: float = 0.0
    """Wall time of the work when it was done, by whomever, in seconds."""


class RoundRecord(Spec):
    """One round of a run."""

    round: int
    """Number of the round, from 0."""
    kept: bool
    """Whether the round was kept; False if it was rolled back."""
    reason: str
    """Why it was kept or rolled back."""
    steps: dict[str, StepRef]
    """Steps by name, in the order in which they were done."""
    accepted: int | None = None
    """Rows of the selection that ended the round; None if nothing was selected in it."""
    class_rows: tuple[int, ...] = ()
    """Accepted rows by pseudo-class."""
    precision: float | None = None
    """Share of accepted rows whose hidden label agrees; None where none is known."""
    selection: dict[str, float | None] = {}
    """What the audit measured: coverage, mean confidence, flip rate, new and dropped rows,
    effective rows, divergence from the labelled classes."""
    class_precision: tuple[float | None, ...] = ()
    """Precision by pseudo-class; None where none is known."""
    thresholds: tuple[float, ...] = ()
    """Least confidence that the selector accepted, by predicted class."""
    prior: tuple[float, ...] = ()
    """The pool's class balance as a calibrator estimated it; empty where none did."""
    in_step: InStep | None = None
    """What the training steps themselves accepted of the pool; None where they label none."""
    terms: dict[str, float | None] = {}
    """Mean of each loss term over the training steps; None where it is not finite."""
    term_weights: dict[str, float] = {}
    """Weight of each loss term in the last training step."""
    teacher_distance: float | None = None
    """Distance of the teacher's parameters from the student's, as a share of their norm."""
    teacher_disagreement: float | None = None
    """Share of some pool rows to which teacher and student give different classes; None where they
    are one network, or the round draws on no such rows."""
    teacher_queue: int | None = None
    """Snapshots in the teacher's queue; None where it has none."""
    alarms: tuple[str, ...] = ()
    """What looks like the run going wrong; nothing acts on it."""
    starved_classes: tuple[int, ...] = ()
    """Classes that the teacher predicts and the selection leaves without a row."""
    validation: dict[str, float]
    """Scores on the validation rows."""
    test: dict[str, float]
    """Scores on the test rows; no decision reads them."""
    alone: dict[str, dict[str, float]] = {}
    """Scores on validation and test of a training on labels alone, where round 0 is none."""
    seconds: float
    """Wall time of the round in this process, in seconds."""


class RunRecord(Spec):
    """A run: its configuration, its rounds, what it delivers."""

    run: str
    """Identity of the run."""
    status: Literal["running", "finished", "interrupted", "failed"]
    """Where it stands."""
    config: RunConfig
    """The resolved configuration."""
    data: str
    """Digest of the data set's tables."""
    classes: tuple[str, ...]
    """Class names."""
    rounds: tuple[RoundRecord, ...] = ()
    """Rounds played so far."""
    best_round: int | None = None
    """The round that the run delivers."""
    stopped: str | None = None
    """Why no further round was played."""
    seconds: float = 0.0
    """Wall time of the last attempt, in seconds."""

    def answer(self) -> dict[str, Any]:
        """The run for machines: what `--json` prints."""
        whole = self.model_dump(mode="json", exclude={"config", "data"})
        return whole | {"name": self.config.name, "method": self.config.method}


def run_id(config: RunConfig, data: Dataset) -> str:
    """The run's identity: its name and a hash of its recipe and data."""
    manifest = data.manifest
    tables = [manifest.labelled, manifest.pool, manifest.validation, manifest.test]
    whole = {"recipe": config.recipe.plain(), "data": [t.digest for t in tables]}
    return f"{config.name}-{digest(whole)[:8]}"


def begin_record(config: RunConfig, data: Dataset) -> RunRecord:
    """The record of a run before its first round."""
    return RunRecord(
        run=run_id(config, data),
        status="running",
        config=config,
        data=data_digest(data),
        classes=data.manifest.classes,
    )


def data_digest(data: Dataset) -> str:
    """One digest of all tables that a run reads."""
    manifest = data.manifest
    names = ("labelled", "pool", "hidden", "validation", "test")
    return digest([getattr(manifest, name).digest for name in names])


def save_run(folder: Path, record: RunRecord) -> None:
    """Write a run's record whole; credentials in URIs are hidden."""
    save_record(folder / RECORD, record)


def save_record(path: Path, record: Spec) -> None:
    """Write a record whole; credentials in URIs are hidden."""
    content = json.dumps(redact(record.plain()), indent=1) + "\n"
    Files(path.parent).write(path.name, content.encode())


def load_run(folder: Path) -> RunRecord:
    """A run's record.

    Raises:
        StoreError: There is none or it can't be read.
    """
    return load_record(folder / RECORD, RunRecord, "run")


def load_record(path: Path, model: type[AnyRecord], what: str) -> AnyRecord:
    """A record of a run or a sweep.

    Raises:
        StoreError: There is none or it can't be read.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path.parent} holds no {what}: {error.strerror}") from error
    except ValidationError as error:
        raise StoreError(f"{path} can't be read: {error}") from error


def find_run(runs: Path, name: str) -> Path:
    """The folder of a run by its identity, the beginning of it, or a path.

    Raises:
        ConfigError: There is none, or several begin so.
    """
    return find_folder(runs, name, RECORD, "run")


def run_folder(runs: Path, name: str) -> Path | None:
    """The folder of a run of this name, begun or finished; None if the name is no run's.

    Raises:
        ConfigError: Several begin so.
    """
    try:
        return find_run(runs, name)
    except ConfigError:
        if (Path(name) / EVENTS).is_file():
            return Path(name)
        if "/" in name:
            return None
        begun = [path.parent for path in runs.glob(f"{glob.escape(name)}*/{EVENTS}")]
        begun = [path for path in begun if not (path / "sweep.json").exists()]
        found = [path for path in begun if path.name == name] or begun
    if len(found) > 1:
        raise ConfigError(f"several runs begin with {name!r}: {', '.join(p.name for p in found)}")
    return found[0] if found else None


def find_folder(runs: Path, name: str, record: str, what: str) -> Path:
    """The folder that holds this record, by its name, the beginning of it, or a path.

    Raises:
        ConfigError: There is none, or several begin so.
    """
    if (Path(name) / record).is_file():
        return Path(name)
    known = sorted(p.parent for p in runs.glob(f"*/{record}"))
    found = [p for p in known if p.name == name] or [p for p in known if p.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(p.name for p in (found or known)) or "none"
    fault = f"several {what}s begin with {name!r}" if found else f"no {what} {name!r} in {runs}"
    raise ConfigError(f"{fault}: {shown}")
