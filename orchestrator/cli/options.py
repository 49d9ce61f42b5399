"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(help="YAML file of the run.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b.c=value", help="Override one field.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
RunName = Annotated[str, typer.Argument(help="Run, the beginning of its name, or its folder.")]
RunsFolder = Annotated[Path, typer.Option("--runs", help="Folder of the runs.")]
StoreRoot = Annotated[str, typer.Option("--store", help="Folder or URI of the store.")]
