"""A run or a sweep as every place starts it: its identity, its command, its environment."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError, DataError
from orchestrator.launch import Launch
from orchestrator.loading import describe_faults, load_config, merge
from orchestrator.runs import run_id
from orchestrator.store.files import below
from orchestrator.sweep.record import sweep_id
from orchestrator.sweep.space import resolve_space

Verb = Literal["run", "sweep"]
PATHS = ("data", "store", "runs")
"""Fields of a config that name places."""


@dataclass(frozen=True)
class Job:
    """One run or sweep, ready to be started anywhere."""

    id: str
    """Identity of the run or sweep; the same wherever it runs."""
    verb: Verb
    config: RunConfig
    file: Path
    overrides: tuple[str, ...]
    launch: Launch

    def command(self, file: str, *, moved: bool) -> tuple[str, ...]:
        """The command with this config file; `moved` for a place that doesn't share this folder.

        Raises:
            ConfigError: A relative path would be lost there.
        """
        kept = [text for text in self.overrides if not text.startswith("launch.")]
        changes = [*kept, *(paths_there(self.config, self.launch) if moved else ())]
        options = [part for change in changes for part in ("--set", change)]
        return (self.launch.python, "-m", "orchestrator", self.verb, file, *options)


def make_job(
    verb: Verb,
    file: Path,
    overrides: Sequence[str] = (),
    launch_file: Path | None = None,
    given_id: str | None = None,
) -> Job:
    """The job of a config file, with its launch block and the launch file laid over it.

    Raises:
        ConfigError: A file holds faults; all of them are listed.
        DataError: The data can't be read here, and no identity was given.
    """
    config = load_config(file, overrides)
    launch = load_launch(launch_file, config.launch)
    identity = given_id or identify(config, verb, launch)
    return Job(identity, verb, config, file, tuple(overrides), launch)


def load_launch(file: Path | None, base: Launch | None = None) -> Launch:
    """The launch settings of a file laid over those of a config.

    Raises:
        ConfigError: The file can't be read, or holds faults.
    """
    if file is None:
        return base or Launch()
    try:
        tree = yaml.safe_load(file.read_text()) or {}
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} is no valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: the top level must be fields, found {type(tree).__name__}")
    whole = merge(base.plain(), tree) if base else tree
    try:
        return Launch.model_validate(whole)
    except ValidationError as error:
        raise ConfigError(describe_faults(error, Launch, whole, str(file))) from None


def identify(config: RunConfig, verb: Verb, launch: Launch) -> str:
    """The identity that the run or sweep will have there, from the data as seen from here.

    Raises:
        DataError: The data can't be read from here.
    """
    roots = [config.data]
    if launch.shared and is_relative(config.data):
        roots.append(below(launch.shared, config.data))
    for root in roots:
        try:
            data = Dataset(root)
        except DataError:
            continue
        if verb == "run":
            return run_id(config, data)
        return sweep_id(config, resolve_space(config), data)
    raise DataError(
        f"no data set in {' or '.join(roots)}, so the {verb}'s identity can't be computed here: "
        "submit from where the data can be read, or name it yourself with --id"
    )


def is_relative(place: str) -> bool:
    """Whether a folder or URI means another place on another machine."""
    return "://" not in place and not Path(place).is_absolute()


def paths_there(config: RunConfig, launch: Launch) -> list[str]:
    """Overrides that put relative data, store and runs below the shared folder.

    Raises:
        ConfigError: There are relative ones, but no shared folder.
    """
    named = {name: str(getattr(config, name)) for name in PATHS}
    homes = [f"{name}: {place}" for name, place in named.items() if place.startswith("~")]
    if homes:
        raise ConfigError(f"{', '.join(homes)}: the home folder is another one there; write it out")
    relative = {name: place for name, place in named.items() if is_relative(place)}
    shown = ", ".join(f"{name}: {place}" for name, place in relative.items())
    if relative and launch.shared is None:
        raise ConfigError(
            f"{shown} would be lost there, since nodes see a copy of the working folder: give "
            "absolute paths or URIs that every node sees, or set launch.shared to such a folder"
        )
    if "runs" in relative and "://" in (launch.shared or ""):
        raise ConfigError(
            f"runs: {named['runs']} can't lie below launch.shared {launch.shared}: records need a "
            "folder; give runs as an absolute path that the driver's node keeps"
        )
    return [f"{name}={below(launch.shared or '', place)}" for name, place in relative.items()]


def note_of(job: Job) -> str | None:
    """What the user should know before it starts; None if there is nothing."""
    placement = job.config.placement
    if job.verb == "run" and placement.engine == "ray" and not placement.train_workers:
        return (
            "note: placement.train_workers is 0, so the driver trains, on CPUs of the head node; "
            "set 1 or more to train on workers and their GPUs"
        )
    return None


def environment(names: Sequence[str]) -> dict[str, str]:
    """The values of these variables here; never to be written down.

    Raises:
        ConfigError: Some are not set.
    """
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ConfigError(f"launch.env: not set here: {', '.join(missing)}")
    return {name: os.environ[name] for name in names}


def shell(command: Sequence[str]) -> str:
    """A command as one line for a shell, which it replaces, so that signals reach it."""
    return f"exec {shlex.join(command)}"
