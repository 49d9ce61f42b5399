"""`selftrain prepare`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import AsJson
from orchestrator.console import Console
from orchestrator.data.dataset import Manifest, PrepareSpec
from orchestrator.data.prepare import already_prepared
from orchestrator.data.prepare import prepare as write_dataset
from orchestrator.data.sources import KINDS


def prepare(
    source: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    labelled_per_class: Annotated[int, typer.Option(min=1, help="Labelled rows a class.")] = 10,
    validation: Annotated[int, typer.Option(min=0, help="Validation rows in all.")] = 0,
    test: Annotated[int, typer.Option(min=0, help="Test rows, where the source has none.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    fragment_rows: Annotated[int, typer.Option(min=1, help="Pool rows a fragment.")] = 4096,
    most_refused_share: Annotated[float, typer.Option(min=0, max=1)] = 0.01,
    drop_duplicates: Annotated[
        bool, typer.Option(help="Refuse exact duplicates across splits.")
    ] = False,
    again: Annotated[bool, typer.Option(help="Write anew what is already there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn a source of images into labelled rows, a pool, validation and test tables."""
    spec = PrepareSpec(
        labelled_per_class=labelled_per_class,
        validation=validation,
        test=test,
        seed=seed,
        fragment_rows=fragment_rows,
        most_refused_share=most_refused_share,
        drop_duplicates=drop_duplicates,
    )
    console = Console(to_stderr=as_json)
    manifest = None if again else already_prepared(source, out, spec)
    if manifest is not None:
        console.say(f"{out} already holds {source} with these settings; --again writes it anew")
    else:
        with console, console.rich.status(f"reading {source}") as status:
            manifest = write_dataset(
                source, out, spec, lambda n: status.update(f"reading {source}: {n:,} rows")
            )
    counts = _counts(manifest)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "classes": manifest.classes, **counts}))
        return
    console.say(f"{out}: " + ", ".join(f"{n:,} {name}" for name, n in counts.items()))
    if manifest.num_duplicates:
        console.say(f"{manifest.num_duplicates} images stand in more than one split, for example:")
        for line in manifest.duplicates[:5]:
            console.say(f"  {line}")
        console.say("  --drop-duplicates refuses them; all are listed in dataset.json (first 100)")


def _counts(manifest: Manifest) -> dict[str, int]:
    names = ("labelled", "pool", "hidden", "validation", "test", "refused")
    rows = {name: getattr(manifest, name).num_rows for name in names}
    return {"classes_found": len(manifest.classes), **rows, "duplicates": manifest.num_duplicates}
