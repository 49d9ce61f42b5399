"""`selftrain export` and `selftrain predict`."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from orchestrator.cli.options import AsJson, RunName, RunsFolder
from orchestrator.console import Console
from orchestrator.data.incoming import incoming
from orchestrator.delivered import export as write_student
from orchestrator.delivered import load_delivered, predict_file
from orchestrator.jobs.job import FeatureForm
from orchestrator.runs import find_run, load_run


def export(
    name: RunName,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    round_: Annotated[
        int | None, typer.Option("--round", help="Round; the one that the run delivers.")
    ] = None,
    runs: RunsFolder = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Take a run's student along: its weights and what they are, in a folder of its own."""
    card = write_student(load_run(find_run(runs, name)), out, round_)
    if as_json:
        typer.echo(card.model_dump_json())
        return
    Console().say(
        f"{out}: the student of round {card.round} of {card.run}, {card.student.kind}, "
        f"test {card.test['score']:.4f}"
    )


def predict(
    student: Annotated[Path, typer.Argument(help="Folder that `selftrain export` wrote.")],
    rows: Annotated[Path, typer.Argument(help="Folder of images, or Parquet with 'image'.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    flips: Annotated[
        bool | None, typer.Option(help="Average with the mirror image; as it was scored.")
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Average over so many views; as it was scored."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask an exported student about new images: one row of the answer for each of them."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_delivered(student, device)
    form = loaded.card.form
    blocks = incoming(rows, features=form.width if isinstance(form, FeatureForm) else 0)
    wanted = {"flips": flips, "views": views}
    how = loaded.card.scoring.model_copy(
        update={name: value for name, value in wanted.items() if value is not None}
    )
    told, refused = predict_file(loaded, blocks, out, how)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "rows": told, "refused": refused}))
        return
    left = f"; {refused:,} could not be read, see {out.stem}.refused.parquet" if refused else ""
    Console().say(f"{out}: {told:,} rows{left}")
