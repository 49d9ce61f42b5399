"""The record of a sweep: a small file that says where it stands and what it found."""

from pathlib import Path
from typing import Any, Literal

from orchestrator.address import digest
from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.runs import data_digest, find_folder, load_record, save_record
from orchestrator.sweep.accounting import Account
from orchestrator.sweep.leaderboard import Place
from orchestrator.sweep.space import Space
from orchestrator.sweep.spec import SweepSpec
from trainables.spec import Spec

RECORD = "sweep.json"


class SweepRecord(Spec):
    """A sweep: what it was asked, where it stands, its leaderboard."""

    sweep: str
    """Identity of the sweep."""
    status: Literal["running", "finished", "interrupted", "failed"]
    """Where it stands."""
    config: RunConfig
    """The resolved configuration."""
    data: str
    """Digest of the data set's tables."""
    places: tuple[Place, ...] = ()
    """Trials, the best first."""
    best: int | None = None
    """Number of the best finished trial."""
    screened: int = 0
    """Candidates that were judged on stored predictions alone."""
    importances: dict[str, float] = {}
    """Share of the first objective's spread that each parameter explains."""
    account: Account = Account()
    """What sharing saved."""
    seconds: float = 0.0
    """Wall time of the last attempt."""

    def answer(self) -> dict[str, Any]:
        """The sweep for machines: what `--json` prints."""
        whole = self.model_dump(mode="json", exclude={"config"})
        whole["account"]["saved_s"] = round(self.account.saved_s, 3)
        return whole | {"name": self.config.name, "method": self.config.method}


def sweep_id(config: RunConfig, space: Space, data: Dataset) -> str:
    """The sweep's identity: its name and a hash of all that decides what a trial means.

    How many trials, who proposes them and which end early may change from one start to the next.
    """
    spec = config.sweep or SweepSpec()
    whole = {
        "recipe": config.recipe.plain(),
        "space": space.plain(),
        "objectives": list(spec.objectives),
        "seeds": list(spec.seeds or ()),
        "data": data_digest(data),
    }
    return f"{config.name}-sweep-{digest(whole)[:8]}"


def save_sweep(folder: Path, record: SweepRecord) -> None:
    """Write a sweep's record whole; credentials in URIs are hidden."""
    save_record(folder / RECORD, record)


def load_sweep(folder: Path) -> SweepRecord:
    """A sweep's record.

    Raises:
        StoreError: There is none or it can't be read.
    """
    return load_record(folder / RECORD, SweepRecord, "sweep")


def find_sweep(runs: Path, name: str) -> Path:
    """The folder of a sweep by its identity, the beginning of it, or a path.

    Raises:
        ConfigError: There is none, or several begin so.
    """
    return find_folder(runs, name, RECORD, "sweep")


def sweep_folder(runs: Path, name: str) -> Path | None:
    """The folder of a sweep of this name, or None if the name is no sweep's."""
    try:
        return find_sweep(runs, name)
    except ConfigError:
        return None
